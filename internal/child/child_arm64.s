//go:build linux

#include "textflag.h"
#include "go_asm.h"

// The rules that hold in the loop are stated in child_linux.go.

#define SYS_write          64
#define SYS_exit           93
#define SYS_exit_group     94
#define SYS_kill           129
#define SYS_rt_sigprocmask 135
#define SYS_getpid         172
#define SIG_SETMASK        2
#define SIGKILL            9
#define EINTR              4

// What the copy ends at: see Code.
#define LOOP_END WORD $0x77617073; WORD $0x646e656e

// R19 frame, R20 current op, R21 flags. A system call clobbers R0 only.

// func clone(f *frame) uintptr
TEXT ·clone(SB), NOSPLIT|NOFRAME, $0-16
	MOVD f+0(FP), R19

	MOVD $SYS_rt_sigprocmask, R8
	MOVD $SIG_SETMASK, R0
	ADD  $frame_block, R19, R1
	ADD  $frame_saved, R19, R2
	MOVD $8, R3
	SVC

	MOVD (frame_call+0)(R19), R8
	MOVD (frame_call+8)(R19), R0
	MOVD (frame_call+16)(R19), R1
	MOVD (frame_call+24)(R19), R2
	MOVD (frame_call+32)(R19), R3
	MOVD (frame_call+40)(R19), R4
	SVC
	CBZ  R0, child

	MOVD R0, R20
	MOVD $SYS_rt_sigprocmask, R8
	MOVD $SIG_SETMASK, R0
	ADD  $frame_saved, R19, R1
	MOVD ZR, R2
	MOVD $8, R3
	SVC
	MOVD R20, ret+8(FP)
	RET

child:
	B ·loop(SB)

// func loopAddress() unsafe.Pointer
TEXT ·loopAddress(SB), NOSPLIT, $0-8
	MOVD $·loop(SB), R0
	MOVD R0, ret+0(FP)
	RET

// func dieAddress() unsafe.Pointer
TEXT ·dieAddress(SB), NOSPLIT, $0-8
	MOVD $·die(SB), R0
	MOVD R0, ret+0(FP)
	RET

// A signal handler, on the child's stack, of which it uses nothing.
TEXT ·die(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $SYS_getpid, R8
	SVC
	MOVD $SIGKILL, R1
	MOVD $SYS_kill, R8
	SVC
	MOVD $127, R0 // refused by a policy
	MOVD $SYS_exit_group, R8
	SVC
	WORD $0 // UDF

// The loop. A stub runs a copy of it: so it goes by its registers alone, jumps
// only within itself, and ends in LOOP_END.
TEXT ·loop(SB), NOSPLIT|NOFRAME, $0-0
	MOVD frame_first(R19), R20

call:
	MOVD frame_end(R19), R0
	CMP  R0, R20
	BHS  exit
	MOVD op_Nr(R20), R8
	MOVD (op_Args+0)(R20), R0
	MOVD (op_Args+8)(R20), R1
	MOVD (op_Args+16)(R20), R2
	MOVD (op_Args+24)(R20), R3
	MOVD (op_Args+32)(R20), R4
	MOVD (op_Args+40)(R20), R5
	SVC
	MOVD op_Flags(R20), R21
	CMN  $4095, R0
	BHS  failed

	TST  $const_flagStore, R21
	BEQ  stored
	MOVD op_Store(R20), R1
	MOVD R0, (R1)

stored:
	TST  $const_flagExpect, R21
	BEQ  expected
	MOVD op_Expect(R20), R1
	CMP  R1, R0
	BEQ  expected
	MOVD ZR, R0
	B    report

expected:
	TST  $const_flagLeave, R21
	BEQ  next
	CBZ  R0, next
	MOVD ZR, R0
	B    exitWith

next:
	ADD $op__size, R20, R20
	B   call

failed:
	NEG R0, R0
	TST $const_flagRetry, R21
	BEQ report
	CMP $EINTR, R0
	BEQ call

	// R0 is the errno, or 0 for a result that was not expected.
report:
	TST  $const_flagIgnore, R21
	BNE  next
	MOVD frame_first(R19), R1
	SUB  R1, R20, R20
	MOVD frame_report(R19), R21
	MOVD R20, 8(R21)
	MOVD R0, 16(R21)

write:
	MOVD $SYS_write, R8
	MOVD (R21), R0
	ADD  $8, R21, R1
	MOVD $16, R2
	SVC
	CMN  $EINTR, R0
	BEQ  write

exit:
	MOVD $127, R0

	// A filter of the program's may refuse the one, and the other too. A fault
	// ends the process then: no handler is left.
exitWith:
	MOVD R0, R20
	MOVD $SYS_exit_group, R8
	SVC
	MOVD R20, R0
	MOVD $SYS_exit, R8
	SVC
	WORD $0 // UDF
	LOOP_END
