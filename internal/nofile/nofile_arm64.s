//go:build linux

#include "textflag.h"

// func getrlimit(l *limit)
TEXT ·getrlimit(SB), NOSPLIT, $0-8
	MOVD $261, R8 // prlimit64
	MOVD ZR, R0   // this process
	MOVD $7, R1   // RLIMIT_NOFILE
	MOVD ZR, R2
	MOVD l+0(FP), R3
	SVC
	RET
