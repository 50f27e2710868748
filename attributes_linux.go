package spawn

func (pl *plan) checkAttributes() error { return nil }

func (pl *plan) scheduling() {}

func (pl *plan) miscellany() {}

func (pl *plan) chroot() {}

func (pl *plan) parentDeathSignal() {}
