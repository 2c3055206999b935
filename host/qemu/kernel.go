// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// noteName and notePhys32Entry mark the entry of a kernel that a VMM may start
	// without a boot loader (PVH), in an ELF note.
	noteName        = "Xen\x00"
	notePhys32Entry = 18
	// maxNotes bounds the notes that are read, in bytes; a kernel has some hundred.
	maxNotes = 1 << 20
)

// ErrNotKernel is a file that QEMU would not boot.
var ErrNotKernel = errors.New("this is no kernel that can be booted")

// CheckKernel says whether the file at path is a kernel image that QEMU boots on
// goarch. It looks for the marks of the formats: what is damaged behind them shows
// in the boot.
func CheckKernel(path, goarch string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open kernel: %w", err)
	}
	defer file.Close()
	head := make([]byte, 0x206)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read kernel: %w", err)
	}
	head = head[:n]
	want := "a bzImage (vmlinuz), or an uncompressed vmlinux with a PVH entry"
	switch {
	case goarch == "arm64":
		want = "an arm64 Image, gzipped or not"
		if hasAt(head, 56, "ARM\x64") || hasAt(head, 0, "\x1f\x8b") {
			return nil
		}
	case hasAt(head, 0x1fe, "\x55\xaa") && hasAt(head, 0x202, "HdrS"):
		return nil
	case hasAt(head, 0, elf.ELFMAG) && hasPVH(file):
		return nil
	}
	return fmt.Errorf("%w: %s, which must be %s", ErrNotKernel, path, want)
}

func hasAt(b []byte, at int, mark string) bool {
	return len(b) >= at+len(mark) && string(b[at:at+len(mark)]) == mark
}

// hasPVH says whether an ELF file of the PC's has the note.
func hasPVH(r io.ReaderAt) bool {
	file, err := elf.NewFile(r)
	if err != nil || file.Machine != elf.EM_X86_64 {
		return false
	}
	for _, p := range file.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > maxNotes {
			continue
		}
		notes, err := io.ReadAll(p.Open())
		if err == nil && findNote(notes, file.ByteOrder) {
			return true
		}
	}
	return false
}

// findNote walks over notes: the lengths of name and content, the type, and then
// both, each filled up to four bytes.
func findNote(notes []byte, order binary.ByteOrder) bool {
	for len(notes) >= 12 {
		name, content := uint64(order.Uint32(notes)), uint64(order.Uint32(notes[4:]))
		kind := order.Uint32(notes[8:])
		notes = notes[12:]
		nameEnd := (name + 3) &^ 3
		end := nameEnd + (content+3)&^3
		if end > uint64(len(notes)) {
			return false
		}
		if kind == notePhys32Entry && bytes.Equal(notes[:name], []byte(noteName)) {
			return true
		}
		notes = notes[end:]
	}
	return false
}
