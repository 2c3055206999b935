// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDocument bounds manifests and configurations, which are read into memory.
const maxDocument = 4 << 20

const copyBuffer = 1 << 20

func (s *Store) blobPath(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("%w: blob digest %q: %w", ErrCorrupt, d, err)
	}
	return filepath.Join(s.root, imgspec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()), nil
}

// hasBlob compares the size too: a file system that lost data in a crash
// leaves short files.
func (s *Store) hasBlob(d digest.Digest, size int64) bool {
	path, err := s.blobPath(d)
	if err != nil {
		return false
	}
	st, err := os.Stat(path)
	return err == nil && (size < 0 || st.Size() == size)
}

// putBlob stores what r yields until EOF. want and size are checked unless
// they are "" and -1. Reading stops as soon as more than size came.
func (s *Store) putBlob(ctx context.Context, r io.Reader, want digest.Digest, size int64) (digest.Digest, int64, error) {
	algorithm := digest.Canonical
	if want != "" {
		if err := want.Validate(); err != nil {
			return "", 0, fmt.Errorf("%w: blob digest %q: %w", ErrCorrupt, want, err)
		}
		algorithm = want.Algorithm()
	}
	f, err := os.CreateTemp(filepath.Join(s.root, tempDir), "blob-")
	if err != nil {
		return "", 0, s.hostError(err)
	}
	digester := algorithm.Digester()
	if size >= 0 {
		r = io.LimitReader(r, size+1)
	}
	in := &sourceReader{ctx: ctx, r: r}
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(f, digester.Hash())}, in, make([]byte, copyBuffer))
	got := digester.Digest()
	switch {
	case in.err != nil && errors.Is(in.err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("%w: blob %s was cut short after %d of %d bytes; try again, and if it stays so the source itself is damaged", ErrCorrupt, want, n, size)
	case err == nil && size >= 0 && n < size:
		err = fmt.Errorf("%w: blob %s is cut short: it has %d bytes, its manifest says %d; the source is damaged", ErrCorrupt, want, n, size)
	case err == nil && size >= 0 && n > size:
		err = fmt.Errorf("%w: blob %s has more than the %d bytes that its manifest says; the source is damaged", ErrCorrupt, want, size)
	case err == nil && want != "" && got != want:
		err = fmt.Errorf("%w: blob %s arrived as %s; try again, and if it stays so the source itself is damaged", ErrCorrupt, want, got)
	}
	path, perr := s.blobPath(got)
	if err = errors.Join(err, perr); err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	return got, n, s.publish(f, path, err)
}

func (s *Store) putDocument(ctx context.Context, b []byte) (digest.Digest, error) {
	d, _, err := s.putBlob(ctx, bytes.NewReader(b), "", -1)
	return d, err
}

// openBlob returns the blob as it is stored.
func (s *Store) openBlob(d digest.Digest) (*os.File, error) {
	path, err := s.blobPath(d)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: blob %s is not in the store; "+again, ErrNotFound, d)
	}
	return f, err
}

// document reads a manifest or configuration and verifies it.
func (s *Store) document(d digest.Digest) ([]byte, error) {
	f, err := s.openBlob(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	if len(b) > maxDocument || d.Algorithm().FromBytes(b) != d {
		return nil, fmt.Errorf("%w: blob %s in the store; "+again, ErrCorrupt, d)
	}
	return b, nil
}

// sourceReader ends with ctx and keeps the error of the source apart from the
// errors of writing.
type sourceReader struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		s.err = err
	}
	return n, err
}

// onlyWriter hides ReadFrom, so that the buffer given to CopyBuffer is used.
type onlyWriter struct{ io.Writer }
