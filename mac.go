package spawn

// labels are those of SELinux, AppArmor and Smack.
type labels struct{}
