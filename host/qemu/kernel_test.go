// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// vmlinux is an ELF file with notes and nothing else.
func vmlinux(t *testing.T, machine elf.Machine, notes []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}
	prog := elf.Prog64{Type: uint32(elf.PT_NOTE), Off: 64 + 56, Filesz: uint64(len(notes)), Memsz: uint64(len(notes)), Align: 4}
	require.NoError(t, binary.Write(&out, binary.LittleEndian, header))
	require.NoError(t, binary.Write(&out, binary.LittleEndian, prog))
	out.Write(notes)
	return out.Bytes()
}

func note(name string, kind uint32, content string) []byte {
	var out bytes.Buffer
	for _, n := range []uint32{uint32(len(name)), uint32(len(content)), kind} {
		out.Write(binary.LittleEndian.AppendUint32(nil, n))
	}
	for _, s := range []string{name, content} {
		out.WriteString(s)
		out.Write(make([]byte, -len(s)&3))
	}
	return out.Bytes()
}

func TestCheckKernel(t *testing.T) {
	t.Parallel()
	bzImage := make([]byte, 0x300)
	copy(bzImage[0x1fe:], "\x55\xaa")
	copy(bzImage[0x202:], "HdrS")
	image := make([]byte, 0x300)
	copy(image[56:], "ARM\x64")
	build := note("GNU\x00", 3, "twenty bytes or so..x")
	entry := note("Xen\x00", 18, "\x00\x00\x00\x01\x00\x00\x00\x00")
	for name, tc := range map[string]struct {
		goarch string
		text   []byte
		good   bool
	}{
		"bzImage":             {"amd64", bzImage, true},
		"vmlinux with PVH":    {"amd64", vmlinux(t, elf.EM_X86_64, append(build, entry...)), true},
		"vmlinux without":     {"amd64", vmlinux(t, elf.EM_X86_64, build), false},
		"vmlinux of another":  {"amd64", vmlinux(t, elf.EM_AARCH64, entry), false},
		"notes cut short":     {"amd64", vmlinux(t, elf.EM_X86_64, entry[:len(entry)-4]), false},
		"a length beyond all": {"amd64", vmlinux(t, elf.EM_X86_64, append([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"), entry[8:]...)), false},
		"a host's name":       {"amd64", []byte("bee\n"), false},
		"nothing":             {"amd64", nil, false},
		"Image on amd64":      {"amd64", image, false},
		"Image":               {"arm64", image, true},
		"Image, gzipped":      {"arm64", []byte("\x1f\x8b\x08"), true},
		"bzImage on arm64":    {"arm64", bzImage, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "kernel")
			require.NoError(t, os.WriteFile(path, tc.text, 0o600))
			err := CheckKernel(path, tc.goarch)
			if tc.good {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrNotKernel)
			require.ErrorContains(t, err, path)
		})
	}
	require.ErrorIs(t, CheckKernel(filepath.Join(t.TempDir(), "none"), "amd64"), os.ErrNotExist)
}
