//go:build linux

#include "textflag.h"
#include "go_asm.h"

// The rules that hold in the loop are stated in child_linux.go.

#define SYS_write          1
#define SYS_rt_sigprocmask 14
#define SYS_getpid         39
#define SYS_exit           60
#define SYS_kill           62
#define SYS_exit_group     231
#define SIG_SETMASK        2
#define SIGKILL            9
#define EINTR              4

// What the copy ends at: see Code.
#define LOOP_END QUAD $0x646e656e77617073

// R12 frame, R13 current op, BX its flags. A system call clobbers AX, CX and
// R11 only.

// func clone(f *frame) uintptr
TEXT ·clone(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ f+0(FP), R12

	MOVQ $SYS_rt_sigprocmask, AX
	MOVQ $SIG_SETMASK, DI
	LEAQ frame_block(R12), SI
	LEAQ frame_saved(R12), DX
	MOVQ $8, R10
	SYSCALL

	MOVQ (frame_call+0)(R12), AX
	MOVQ (frame_call+8)(R12), DI
	MOVQ (frame_call+16)(R12), SI
	MOVQ (frame_call+24)(R12), DX
	MOVQ (frame_call+32)(R12), R10
	MOVQ (frame_call+40)(R12), R8
	SYSCALL
	TESTQ AX, AX
	JZ   child

	MOVQ AX, R13
	MOVQ $SYS_rt_sigprocmask, AX
	MOVQ $SIG_SETMASK, DI
	LEAQ frame_saved(R12), SI
	XORL DX, DX
	MOVQ $8, R10
	SYSCALL
	MOVQ R13, ret+8(FP)
	RET

child:
	JMP ·loop(SB)

// func loopAddress() unsafe.Pointer
TEXT ·loopAddress(SB), NOSPLIT, $0-8
	LEAQ ·loop(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func dieAddress() unsafe.Pointer
TEXT ·dieAddress(SB), NOSPLIT, $0-8
	LEAQ ·die(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// A signal handler, on the child's stack, of which it uses nothing.
TEXT ·die(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ $SYS_getpid, AX
	SYSCALL
	MOVQ AX, DI
	MOVQ $SIGKILL, SI
	MOVQ $SYS_kill, AX
	SYSCALL
	MOVQ $127, DI // refused by a policy
	MOVQ $SYS_exit_group, AX
	SYSCALL
	UD2

// The loop. A stub runs a copy of it: so it goes by its registers alone, jumps
// only within itself, and ends in LOOP_END.
TEXT ·loop(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ frame_first(R12), R13

call:
	CMPQ R13, frame_end(R12)
	JAE  exit
	MOVQ op_Nr(R13), AX
	MOVQ (op_Args+0)(R13), DI
	MOVQ (op_Args+8)(R13), SI
	MOVQ (op_Args+16)(R13), DX
	MOVQ (op_Args+24)(R13), R10
	MOVQ (op_Args+32)(R13), R8
	MOVQ (op_Args+40)(R13), R9
	SYSCALL
	MOVQ op_Flags(R13), BX
	CMPQ AX, $0xfffffffffffff001
	JAE  failed

	TESTQ $const_flagStore, BX
	JZ    stored
	MOVQ  op_Store(R13), CX
	MOVQ  AX, (CX)

stored:
	TESTQ $const_flagExpect, BX
	JZ    expected
	CMPQ  AX, op_Expect(R13)
	JEQ   expected
	XORL  AX, AX
	JMP   report

expected:
	TESTQ $const_flagLeave, BX
	JZ    next
	TESTQ AX, AX
	JZ    next
	XORL  DI, DI
	JMP   exitWith

next:
	ADDQ $op__size, R13
	JMP  call

failed:
	NEGQ  AX
	TESTQ $const_flagRetry, BX
	JZ    report
	CMPQ  AX, $EINTR
	JEQ   call

	// AX is the errno, or 0 for a result that was not expected.
report:
	TESTQ $const_flagIgnore, BX
	JNZ   next
	SUBQ  frame_first(R12), R13
	MOVQ  frame_report(R12), BX
	MOVQ  R13, 8(BX)
	MOVQ  AX, 16(BX)

write:
	MOVQ $SYS_write, AX
	MOVQ (BX), DI
	LEAQ 8(BX), SI
	MOVQ $16, DX
	SYSCALL
	CMPQ AX, $-EINTR
	JEQ  write

exit:
	MOVQ $127, DI

	// A filter of the program's may refuse the one, and the other too. A fault
	// ends the process then: no handler is left.
exitWith:
	MOVQ $SYS_exit_group, AX
	SYSCALL
	MOVQ $SYS_exit, AX
	SYSCALL
	UD2
	LOOP_END
