// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cavaliergopher/cpio"
)

// ModuleDir is where the guest finds its kernel modules.
const ModuleDir = "lib/waggle/modules"

// Content is what one initramfs is made of.
type Content struct {
	// Guestd is the path of the guest agent, a static binary: /init.
	Guestd string
	// Modules are the paths of kernel modules in load order. Their base names
	// must sort in the same order.
	Modules []string
	// GuestdInfo is passed through in boot.json. May be nil.
	GuestdInfo json.RawMessage
}

// Boot is boot.json.
type Boot struct {
	// Modules are file names in ModuleDir, in load order.
	Modules []string `json:"modules"`
	// Guestd is Content.GuestdInfo.
	Guestd json.RawMessage `json:"guestd,omitempty"`
}

// directories in the order in which they must be made.
var directories = []string{
	"dev", "proc", "sys", "run", "tmp", "newroot", "lib", "lib/waggle", ModuleDir,
}

// Write writes the archive to w. The same content gives the same bytes.
func Write(w io.Writer, c Content) error {
	archive := cpio.NewWriter(w)
	for _, dir := range directories {
		header := &cpio.Header{Name: dir, Mode: cpio.TypeDir | 0o755, Links: 2}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("write directory %s: %w", dir, err)
		}
	}
	// Empty entries have no data and need no padding, so that an entry of our
	// own fits between those of the library.
	if err := archive.Flush(); err != nil {
		return fmt.Errorf("write directories: %w", err)
	}
	if err := writeConsole(w); err != nil {
		return err
	}
	boot := Boot{Modules: []string{}, Guestd: c.GuestdInfo}
	for _, path := range c.Modules {
		name := filepath.Base(path)
		boot.Modules = append(boot.Modules, name)
		if err := addFile(archive, ModuleDir+"/"+name, path, 0o644); err != nil {
			return err
		}
	}
	data, err := json.Marshal(boot)
	if err != nil {
		return fmt.Errorf("encode boot.json: %w", err)
	}
	header := &cpio.Header{Name: "lib/waggle/boot.json", Mode: cpio.TypeReg | 0o644, Links: 1, Size: int64(len(data))}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("write boot.json: %w", err)
	}
	if _, err := archive.Write(data); err != nil {
		return fmt.Errorf("write boot.json: %w", err)
	}
	if err := addFile(archive, "init", c.Guestd, 0o755); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("end archive: %w", err)
	}
	return nil
}

func addFile(archive *cpio.Writer, name, path string, mode cpio.FileMode) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	header := &cpio.Header{Name: name, Mode: cpio.TypeReg | mode, Links: 1, Size: info.Size()}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if _, err := io.CopyN(archive, file, info.Size()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// writeConsole writes the node of /dev/console (character device 5:1), which
// the cpio library cannot: it has no field for a device number
// (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's
// source has the format).
func writeConsole(w io.Writer) error {
	const name = "dev/console\x00"
	mode := uint32(cpio.TypeChar | 0o600)
	// ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor
	// rdevminor namesize check
	_, err := fmt.Fprintf(w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s",
		0, mode, 0, 0, 1, 0, 0, 0, 0, 5, 1, len(name), 0, name)
	if err != nil {
		return fmt.Errorf("write dev/console: %w", err)
	}
	// Header and name are padded to a multiple of 4.
	pad := (4 - (110+len(name))%4) % 4
	if _, err := w.Write(make([]byte, pad)); err != nil {
		return fmt.Errorf("write dev/console: %w", err)
	}
	return nil
}
