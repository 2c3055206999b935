// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"fmt"
	"math"
	"unsafe"

	"golang.org/x/sys/unix"
)

// region is one piece of guest memory, mapped here.
type region struct {
	memRegion
	mem     []byte // exactly the region
	mapping []byte // what was mapped: mem and perhaps some alignment before it
}

// memory is the guest's memory table. It owns its mappings.
type memory struct {
	regions []region
}

// mapMemory maps what SET_MEM_TABLE describes. It takes over fds and closes
// them in any case: a mapping needs no descriptor.
func mapMemory(table []memRegion, fds []int) (*memory, error) {
	defer closeAll(fds)
	if len(table) != len(fds) {
		return nil, fmt.Errorf("%w: %d memory regions with %d descriptors", ErrFrontend, len(table), len(fds))
	}
	m := &memory{}
	for i, r := range table {
		mapped, err := mapRegion(r, fds[i])
		if err != nil {
			m.unmap()
			return nil, fmt.Errorf("map guest memory region %d: %w", i, err)
		}
		m.regions = append(m.regions, mapped)
	}
	return m, nil
}

func mapRegion(r memRegion, fd int) (region, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 {
		return region{}, fmt.Errorf("%w: it can shrink under the device; use -object memory-backend-memfd with seal=on", ErrMemory)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return region{}, fmt.Errorf("stat guest memory: %w", err)
	}
	end := r.offset + r.size
	if r.size == 0 || end < r.offset || end > math.MaxInt64 || st.Size < int64(end) ||
		r.gpa+r.size < r.gpa || r.uva+r.size < r.uva {
		return region{}, fmt.Errorf("%w: region %#x+%#x at offset %#x of a file of %#x bytes", ErrFrontend, r.gpa, r.size, r.offset, st.Size)
	}
	// A mapping starts on a page boundary, and for huge pages that is the
	// file's block size.
	align := max(uint64(st.Blksize), uint64(unix.Getpagesize()))
	start := r.offset - r.offset%align
	mapping, err := unix.Mmap(fd, int64(start), int(end-start), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return region{}, fmt.Errorf("mmap guest memory: %w", err)
	}
	// What the guest holds in memory must not end up in a core dump of the
	// host process. Failing to say so harms nothing else.
	_ = unix.Madvise(mapping, unix.MADV_DONTDUMP)
	return region{memRegion: r, mapping: mapping, mem: mapping[r.offset-start:]}, nil
}

func (m *memory) unmap() {
	for _, r := range m.regions {
		if r.mapping != nil {
			_ = unix.Munmap(r.mapping)
		}
	}
	m.regions = nil
}

// guest returns the n bytes at guest-physical address addr. A range that
// leaves its region is refused even when another region follows it: nothing
// says that the two are neighbours in this process.
func (m *memory) guest(addr, n uint64) ([]byte, bool) {
	for i := range m.regions {
		r := &m.regions[i]
		if off := addr - r.gpa; addr >= r.gpa && off < r.size && n <= r.size-off {
			return r.mem[off : off+n : off+n], true
		}
	}
	return nil, false
}

// user is guest for an address in the front-end's own address space, which is
// how vhost-user names rings.
func (m *memory) user(addr, n uint64) ([]byte, bool) {
	for i := range m.regions {
		r := &m.regions[i]
		if off := addr - r.uva; addr >= r.uva && off < r.size && n <= r.size-off {
			return r.mem[off : off+n : off+n], true
		}
	}
	return nil, false
}

// holds tells whether addr, an address in this process, is guest memory.
func (m *memory) holds(addr uintptr) bool {
	for _, r := range m.regions {
		if base := uintptr(unsafe.Pointer(unsafe.SliceData(r.mapping))); addr-base < uintptr(len(r.mapping)) {
			return true
		}
	}
	return false
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
