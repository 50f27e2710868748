//go:build linux

#include "textflag.h"

// func getrlimit(l *limit)
TEXT ·getrlimit(SB), NOSPLIT, $0-8
	MOV $261, A7 // prlimit64
	MOV ZERO, A0 // this process
	MOV $7, A1   // RLIMIT_NOFILE
	MOV ZERO, A2
	MOV l+0(FP), A3
	ECALL
	RET
