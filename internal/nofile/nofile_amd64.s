//go:build linux

#include "textflag.h"

// func getrlimit(l *limit)
TEXT ·getrlimit(SB), NOSPLIT, $0-8
	MOVQ $302, AX // prlimit64
	XORL DI, DI   // this process
	MOVQ $7, SI   // RLIMIT_NOFILE
	XORL DX, DX
	MOVQ l+0(FP), R10
	SYSCALL
	RET
