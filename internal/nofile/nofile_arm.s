//go:build linux

#include "textflag.h"

// func getrlimit(l *limit)
TEXT ·getrlimit(SB), NOSPLIT, $0-4
	MOVW $369, R7 // prlimit64
	MOVW $0, R0   // this process
	MOVW $7, R1   // RLIMIT_NOFILE
	MOVW $0, R2
	MOVW l+0(FP), R3
	SWI  $0
	RET
