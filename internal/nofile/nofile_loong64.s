//go:build linux

#include "textflag.h"

// func getrlimit(l *limit)
TEXT ·getrlimit(SB), NOSPLIT, $0-8
	MOVV $261, R11 // prlimit64
	MOVV R0, R4    // this process
	MOVV $7, R5    // RLIMIT_NOFILE
	MOVV R0, R6
	MOVV l+0(FP), R7
	SYSCALL
	RET
