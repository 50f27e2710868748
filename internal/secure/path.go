package secure

// Path takes the place of PATH where Mode is true.
const Path = "/bin:/usr/bin"
