package main

import (
	"fmt"
	"io"
)

// The type bits of a mode in a cpio archive, as in inode(7).
const (
	typeDir  = 0o040000
	typeFile = 0o100000
	typeLink = 0o120000
)

// entry is one file of a cpio archive. Data is the target of a symbolic link.
type entry struct {
	name     string // without a leading slash
	mode     uint32 // type and permissions
	uid, gid int
	data     []byte
}

// cpioWriter writes the "newc" format that the kernel unpacks as its first root
// file system: see Documentation/driver-api/early-userspace/buffer-format.rst.
// A directory must be written before what it holds.
type cpioWriter struct {
	w     io.Writer
	inode int
}

func (c *cpioWriter) write(e entry) error {
	c.inode++
	name := e.name + "\x00"
	// Magic, then inode, mode, uid, gid, links, mtime, size, the numbers of
	// two devices, the length of the name and an unused checksum.
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.inode, e.mode, e.uid, e.gid, 1, 0, len(e.data), 0, 0, 0, 0, len(name), 0)
	if err := c.writePadded([]byte(header + name)); err != nil {
		return err
	}
	return c.writePadded(e.data)
}

// close writes the end of the archive, not of w.
func (c *cpioWriter) close() error {
	return c.write(entry{name: "TRAILER!!!"})
}

// writePadded fills up with zeros to a multiple of four bytes.
func (c *cpioWriter) writePadded(data []byte) error {
	if _, err := c.w.Write(data); err != nil {
		return err
	}
	_, err := c.w.Write(make([]byte, -len(data)&3))
	return err
}
