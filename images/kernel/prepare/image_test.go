// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"
)

// pvhELF is the smallest ELF that checkPVH accepts: one PT_NOTE segment.
func pvhELF(t *testing.T) []byte {
	t.Helper()
	note := append([]byte{4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, 'X', 'e', 'n', 0}, 0, 0, 0, 1)
	var b bytes.Buffer
	require.NoError(t, binary.Write(&b, binary.LittleEndian, elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}))
	require.NoError(t, binary.Write(&b, binary.LittleEndian, elf.Prog64{
		Type: uint32(elf.PT_NOTE), Off: 120, Filesz: uint64(len(note)), Memsz: uint64(len(note)),
	}))
	b.Write(note)
	b.Write(make([]byte, 100_000)) // enough to compress
	return b.Bytes()
}

// bzImage wraps a payload in a setup header.
func bzImage(payload []byte) []byte {
	image := make([]byte, 2*sectorSize)
	image[offSetupSects] = 1
	copy(image[offMagic:], "HdrS")
	binary.LittleEndian.PutUint32(image[offPayloadLength:], uint32(len(payload)))
	return append(image, payload...)
}

func withSize(compressed, plain []byte) []byte {
	return binary.LittleEndian.AppendUint32(compressed, uint32(len(plain)))
}

func lz4Legacy(t *testing.T, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := lz4.NewWriter(&b)
	require.NoError(t, w.Apply(lz4.LegacyOption(true)))
	_, err := w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestUncompress(t *testing.T) {
	t.Parallel()
	plain := pvhELF(t)
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, err := w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	enc, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	noNote := bytes.Replace(plain, []byte("Xen"), []byte("Non"), 1)

	tests := []struct {
		name    string
		image   []byte
		wantErr string
	}{
		{"lz4", bzImage(withSize(lz4Legacy(t, plain), plain)), ""},
		{"gzip", bzImage(gz.Bytes()), ""},
		{"zstd", bzImage(withSize(enc.EncodeAll(plain, nil), plain)), ""},
		{"xz", bzImage([]byte("\xfd7zXZ\x00 more")), "compressed with xz"},
		{"unknown method", bzImage([]byte("\x01\x02\x03\x04 more")), "magic 01 02 03 04"},
		{"no PVH entry", bzImage(withSize(lz4Legacy(t, noNote), noNote)), "CONFIG_PVH"},
		{"wrong length", bzImage(withSize(lz4Legacy(t, plain), plain[1:])), "header says"},
		{"huge length", bzImage([]byte("\x02\x21\x4c\x18\xff\xff\xff\xff")), "is over"},
		{"not an ELF", bzImage(withSize(lz4Legacy(t, make([]byte, 500)), make([]byte, 500))), "not an ELF"},
		{"payload outside the file", bzImage(make([]byte, 600))[:1100], "in a file of"},
		{"empty payload", bzImage(nil), "payload at"},
		{"no header", make([]byte, 4096), "no bzImage header"},
		{"empty file", nil, "no bzImage header"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Uncompress("amd64", tt.image)
			if tt.wantErr != "" {
				require.ErrorContains(t, err, tt.wantErr)
				return
			}
			require.NoError(t, err)
			require.Equal(t, plain, got)
		})
	}
}

func TestUncompressARM64(t *testing.T) {
	t.Parallel()
	image := make([]byte, 128)
	copy(image[56:], arm64Magic)
	got, err := Uncompress("arm64", image)
	require.NoError(t, err)
	require.Equal(t, image, got)

	_, err = Uncompress("arm64", bzImage(nil))
	require.ErrorIs(t, err, ErrNotKernel)
}

func FuzzUncompress(f *testing.F) {
	f.Add(bzImage([]byte("\x02\x21\x4c\x18\x00\x01\x00\x00")))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, image []byte) {
		// Only that it returns: no panic, no endless loop, bounded memory.
		_, _ = Uncompress("amd64", image)
	})
}
