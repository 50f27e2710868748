//go:build linux && (ppc64 || ppc64le)

#include "textflag.h"

// func getrlimit(l *limit)
TEXT ·getrlimit(SB), NOSPLIT, $0-8
	MOVD $0, R3 // this process
	MOVD $7, R4 // RLIMIT_NOFILE
	MOVD $0, R5
	MOVD l+0(FP), R6
	SYSCALL $325 // prlimit64
	RET
