//go:build linux

#include "textflag.h"

// func getrlimit(l *limit)
TEXT ·getrlimit(SB), NOSPLIT, $0-4
	MOVL $340, AX // prlimit64
	XORL BX, BX   // this process
	MOVL $7, CX   // RLIMIT_NOFILE
	XORL DX, DX
	MOVL l+0(FP), SI
	INT  $0x80
	RET
