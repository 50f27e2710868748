//go:build linux

#include "textflag.h"

// func getrlimit(l *limit)
TEXT ·getrlimit(SB), NOSPLIT, $0-8
	MOVD $0, R2 // this process
	MOVD $7, R3 // RLIMIT_NOFILE
	MOVD $0, R4
	MOVD l+0(FP), R5
	MOVW $334, R1 // prlimit64
	SYSCALL
	RET
