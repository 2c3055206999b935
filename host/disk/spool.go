// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	copyBuffer = 1 << 20
	tarBlock   = 512
)

// spool is one uncompressed layer in a nameless temporary file, so that its
// content can be read in another order than it came. The file is gone with the
// process, however that ends.
type spool struct {
	f       *os.File
	size    int64
	entries []*entry
}

func (s *spool) close() { _ = s.f.Close() }

// budget is what is left of Limits while the layers of one image are read.
type budget struct {
	entries           int
	raw, files, index int64
	limits            Limits
	// full is the host's word for a disk without room for the layers. They are then
	// read to their end all the same, and not kept: so it is known what they need.
	full error
}

func newBudget(l Limits) *budget {
	return &budget{entries: l.Entries, raw: l.Bytes, files: l.Bytes, index: l.IndexBytes, limits: l}
}

func (b *budget) takeEntry() error {
	if b.entries--; b.entries < 0 {
		return overCount("files", b.limits.Entries+1, b.limits.Entries, settingFiles)
	}
	return nil
}

// take takes what the entry has: the bytes of its file, and the memory for itself.
func (b *budget) take(e *entry) error {
	if b.files -= e.node.size; b.files < 0 {
		return overBytes("files, unpacked", b.limits.Bytes-b.files, b.limits.Bytes, settingBytes)
	}
	if b.index -= e.memory(); b.index < 0 {
		return overBytes("names and attributes of files", b.limits.IndexBytes-b.index, b.limits.IndexBytes, "WAGGLE_IMAGE_MAX_INDEX_MB")
	}
	return nil
}

// tee copies what the tar reader consumes into the spool file and knows the
// position. It stops at the end of the budget or of ctx.
type tee struct {
	ctx    context.Context
	src    io.Reader
	dst    *bufio.Writer
	pos    int64
	budget *budget
	// failed is an error of ours or of the host, as opposed to one of the
	// layer. The tar reader passes errors on, but not all unchanged.
	failed error
}

func (t *tee) Read(p []byte) (int, error) {
	if err := t.ctx.Err(); err != nil {
		t.failed = err
		return 0, err
	}
	n, err := t.src.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.failed = err
	}
	t.pos += int64(n)
	if t.budget.raw -= int64(n); t.budget.raw < 0 {
		t.failed = overBytes("layers, uncompressed", t.budget.limits.Bytes-t.budget.raw, t.budget.limits.Bytes, settingBytes)
		return 0, t.failed
	}
	if t.budget.full == nil {
		if werr := t.note(t.dst.Write(p[:n])); werr != nil {
			return 0, werr
		}
	}
	return n, err
}

// note notes an error of writing. A full disk is none yet.
func (t *tee) note(_ int, err error) error {
	switch {
	case err == nil:
	case isFull(err):
		t.budget.full = fmt.Errorf("spool layer: %w", err)
	default:
		t.failed = fmt.Errorf("spool layer: %w", err)
	}
	return t.failed
}

// readLayer spools one layer below dir and indexes it.
func readLayer(ctx context.Context, dir string, number int, layer Layer, b *budget) (_ *spool, err error) {
	src, err := layer.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open layer: %w", err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	f, err := os.CreateTemp(dir, buildPrefix+"layer-")
	if err != nil {
		return nil, fmt.Errorf("spool layer: %w", err)
	}
	s := &spool{f: f}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("spool layer: %w", err)
	}
	t := &tee{ctx: ctx, src: bufio.NewReaderSize(src, copyBuffer), dst: bufio.NewWriterSize(f, copyBuffer), budget: b}
	if err := s.index(t, number); err != nil {
		if t.failed != nil {
			return nil, t.failed
		}
		return nil, err
	}
	if b.full == nil {
		if err := t.note(0, t.dst.Flush()); err != nil {
			return nil, err
		}
	}
	s.size = t.pos
	return s, nil
}

// index reads the tar to its very end: the source verifies its digest there.
func (s *spool) index(t *tee, number int) error {
	tr := tar.NewReader(t)
	buf := make([]byte, copyBuffer)
	for {
		// Content was read to its end below, so only padding lies between
		// here and the next header (which may have extension headers first).
		off := (t.pos + tarBlock - 1) / tarBlock * tarBlock
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: read tar: %w", ErrBadLayer, err)
		}
		if err := t.budget.takeEntry(); err != nil {
			return err
		}
		e, err := newEntry(hdr, number, off, t.budget.limits)
		if err != nil {
			return err
		}
		if e == nil {
			continue
		}
		if err := t.budget.take(e); err != nil {
			return err
		}
		s.entries = append(s.entries, e)
		if _, err := io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{tr}, buf); err != nil {
			return fmt.Errorf("%w: read %q: %w", ErrBadLayer, hdr.Name, err)
		}
	}
	if _, err := io.CopyBuffer(onlyWriter{io.Discard}, t, buf); err != nil {
		return fmt.Errorf("%w: read tar: %w", ErrBadLayer, err)
	}
	return nil
}

// onlyWriter and onlyReader hide ReadFrom and WriteTo, which would bring
// small buffers of their own.
type onlyWriter struct{ io.Writer }

type onlyReader struct{ io.Reader }

// open returns the content of a regular file. Going through the tar reader
// again expands sparse files.
func (s *spool) open(off int64) (io.Reader, error) {
	tr := tar.NewReader(io.NewSectionReader(s.f, off, s.size-off))
	if _, err := tr.Next(); err != nil {
		return nil, fmt.Errorf("read spooled layer: %w", err)
	}
	return tr, nil
}
