// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Offsets into the x86 boot protocol's setup header
// (Documentation/arch/x86/boot.rst in the kernel's source).
const (
	offSetupSects    = 0x1f1
	offMagic         = 0x202
	offPayload       = 0x248
	offPayloadLength = 0x24c
	endSetupHeader   = 0x250
	sectorSize       = 512
	// maxKernel bounds an uncompressed kernel; Debian's has 53 MB.
	maxKernel = 512 << 20
)

// arm64Magic stands at offset 56 of an arm64 Image.
var arm64Magic = []byte("ARM\x64")

// ErrNotKernel: the file is not a kernel image of the wanted architecture.
var ErrNotKernel = errors.New("not a kernel image")

// Uncompress turns a distribution's kernel image for arch into what QEMU boots
// without the kernel's own decompressor (under emulation that one takes 0.3 s):
// an ELF with a PVH entry from a bzImage, the Image itself on arm64.
func Uncompress(arch string, image []byte) ([]byte, error) {
	if arch == "arm64" {
		if len(image) < 64 || !bytes.Equal(image[56:60], arm64Magic) {
			return nil, fmt.Errorf("%w: no arm64 Image header", ErrNotKernel)
		}
		return image, nil
	}
	payload, err := bzPayload(image)
	if err != nil {
		return nil, err
	}
	vmlinux, err := decompress(payload)
	if err != nil {
		return nil, err
	}
	if err := checkPVH(vmlinux); err != nil {
		return nil, err
	}
	return vmlinux, nil
}

// bzPayload is the compressed kernel inside a bzImage.
func bzPayload(image []byte) ([]byte, error) {
	if len(image) < endSetupHeader || string(image[offMagic:offMagic+4]) != "HdrS" {
		return nil, fmt.Errorf("%w: no bzImage header", ErrNotKernel)
	}
	sects := uint64(image[offSetupSects])
	if sects == 0 {
		sects = 4 // as the boot protocol has it
	}
	start := (sects+1)*sectorSize + uint64(binary.LittleEndian.Uint32(image[offPayload:]))
	end := start + uint64(binary.LittleEndian.Uint32(image[offPayloadLength:]))
	if start >= end || end > uint64(len(image)) {
		return nil, fmt.Errorf("%w: payload at %#x to %#x in a file of %#x bytes", ErrNotKernel, start, end, len(image))
	}
	return image[start:end], nil
}

// decompress unpacks a bzImage's payload. All formats but gzip have the
// uncompressed length appended as 4 bytes, which no decompressor expects.
func decompress(payload []byte) ([]byte, error) {
	if len(payload) < 8 {
		return nil, fmt.Errorf("%w: payload of %d bytes", ErrNotKernel, len(payload))
	}
	body := payload[:len(payload)-4]
	size := int64(binary.LittleEndian.Uint32(payload[len(payload)-4:]))
	method := format(payload)
	var r io.Reader
	switch method {
	case "lz4":
		r = lz4.NewReader(bytes.NewReader(body))
	case "zstd":
		z, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderMaxMemory(maxKernel))
		if err != nil {
			return nil, fmt.Errorf("open zstd kernel: %w", err)
		}
		defer z.Close()
		r = z
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(payload))
		if err != nil {
			return nil, fmt.Errorf("open gzip kernel: %w", err)
		}
		r = z
	default:
		return nil, fmt.Errorf("kernel is compressed with %s: only lz4, zstd and gzip are supported; "+
			"unpack it with the kernel's scripts/extract-vmlinux and set WAGGLE_KERNEL to the result", method)
	}
	if size > maxKernel {
		return nil, fmt.Errorf("%w: uncompressed length %d is over %d", ErrNotKernel, size, maxKernel)
	}
	var vmlinux bytes.Buffer
	if _, err := io.Copy(&vmlinux, io.LimitReader(r, size+1)); err != nil {
		return nil, fmt.Errorf("decompress kernel (%s): %w", method, err)
	}
	if int64(vmlinux.Len()) != size {
		return nil, fmt.Errorf("decompress kernel (%s): %d bytes, header says %d", method, vmlinux.Len(), size)
	}
	return vmlinux.Bytes(), nil
}

func format(payload []byte) string {
	for _, f := range []struct{ magic, name string }{
		{"\x02\x21\x4c\x18", "lz4"}, // the legacy frame, which the kernel uses
		{"\x28\xb5\x2f\xfd", "zstd"},
		{"\x1f\x8b", "gzip"},
		{"\xfd7zXZ\x00", "xz"},
		{"BZh", "bzip2"},
		{"\x5d\x00\x00", "lzma"},
		{"\x89LZO", "lzo"},
	} {
		if bytes.HasPrefix(payload, []byte(f.magic)) {
			return f.name
		}
	}
	return fmt.Sprintf("an unknown method (magic % x)", payload[:4])
}

// checkPVH looks for the note that tells QEMU where to enter the ELF
// (XEN_ELFNOTE_PHYS32_ENTRY): without it the kernel would not start at all.
func checkPVH(vmlinux []byte) error {
	file, err := elf.NewFile(bytes.NewReader(vmlinux))
	if err != nil {
		return fmt.Errorf("%w: payload is not an ELF: %w", ErrNotKernel, err)
	}
	note := []byte{4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, 'X', 'e', 'n', 0}
	note8 := []byte{4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0, 'X', 'e', 'n', 0}
	for _, prog := range file.Progs {
		if prog.Type != elf.PT_NOTE || prog.Filesz > maxKernel {
			continue
		}
		data := make([]byte, prog.Filesz)
		if _, err := io.ReadFull(prog.Open(), data); err != nil {
			return fmt.Errorf("read ELF notes of kernel: %w", err)
		}
		if bytes.Contains(data, note) || bytes.Contains(data, note8) {
			return nil
		}
	}
	return fmt.Errorf("%w: no PVH entry (the kernel was built without CONFIG_PVH)", ErrNotKernel)
}
