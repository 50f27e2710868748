//go:build linux

package run

import (
	"context"

	"github.com/virspawn/spawn/internal/process"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// What the tests of this package reach into.

const (
	BusyTries  = busyTries
	MaxBlocked = maxBlocked
)

var (
	Again         = again
	CloneChild    = cloneChild
	ErrUnexpected = errUnexpected
	Prepare       = prepare
	RunOnce       = runOnce
	TryBlock      = tryBlock
)

// MaxMute is how long a helper may take until it is one.
var MaxMute = &maxMute

// Child is a child of a plan.
type Child = run

// ChildOf returns the child that a process is.
func ChildOf(p *process.Process) *Child { return p.Target.(*run) }

// ChooseExecutor chooses who is to run the command.
func (c *Call) ChooseExecutor(explain bool) error { return c.chooseExecutor(explain) }

// Meet does what the child needs this process for.
func (r *run) Meet() { _ = r.meet() }

func (r *run) Process() *process.Process              { return r.p }
func (r *run) NewProcess()                            { r.newProcess() }
func (r *run) Clone() error                           { return r.clone() }
func (r *run) DoParentWork()                          { r.doParentWork() }
func (r *run) WatchContext(ctx context.Context)       { r.unwatch = r.p.Watch(ctx) }
func (r *run) OpenStatus()                            { r.openStatus() }
func (r *run) CloseStatus()                           { r.closeStatus(); r.StatusF.Close() }
func (r *run) DrainStatus()                           { r.drainStatus() }
func (r *run) TakeLast()                              { r.takeLast() }
func (r *run) EndReads()                              { _ = r.StatusF.SetReadDeadline(past) }
func (r *run) PassGate() error                        { return r.passGate() }
func (r *run) SetPID(pid int)                         { r.handle.pid = int32(pid) }
func (r *run) HandOver()                              { r.handOver() }
func (r *run) WaitExec() error                        { return r.waitExec() }
func (r *run) StartWaiting(ctx context.Context) error { return r.startWaiting(ctx) }
func (r *run) Wait() error                            { return r.wait() }
func (r *run) GiveBack()                              { r.giveBack(true) }
func (r *run) AwaitsSign() bool                       { return r.sign != nil }
func (r *run) Reap() bool                             { return r.reap() }
func (r *run) CloseHandle()                           { r.handle.close() }
func (r *run) SignalGroup(sig unix.Signal) error      { return r.signalGroup(sig) }
func (r *run) SaveProcess() (undo func())             { return r.saveProcess() }
func (r *run) StartError(f program.Failure) error     { return r.startError(f) }
func (r *run) SetReaped(reaped bool)                  { r.handle.reaped = reaped }

// IsOurs reports whether a process is a child of this one.
func IsOurs(pid, pidfd int) bool { return (&handle{fd: pidfd, pid: int32(pid)}).isOurs() }
