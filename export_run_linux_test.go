package spawn

import "context"

func (r *run) process() *running { return r.p }

func (r *run) watchContext(ctx context.Context) { r.unwatch = r.p.watch(ctx) }

func (r *run) closeHandle() { r.handle.close() }
