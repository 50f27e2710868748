# A minimal AppArmor profile for tests: everything but what stands in /secret.
profile spawn-confined flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  unix,
  signal,
  ptrace,
  mount,
  deny /secret/** r,
}
# One that executes no memfd.
profile spawn-no-memfd flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  unix,
  signal,
  ptrace,
  mount,
  deny /memfd:** x,
}
