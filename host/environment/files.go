// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// MaxRead is the most of a file that one ReadFile returns, in bytes.
	MaxRead = 1 << 20
	// MaxPath is the longest path, in bytes.
	MaxPath = 4096
	// fileTimeout bounds one file operation.
	fileTimeout = 2 * time.Minute
)

// File describes one file.
type File struct {
	Path string
	// Type is file, directory, symlink or other.
	Type string
	// Size in bytes; not the length of what the kernel makes up, as below /proc.
	Size     uint64
	Mode     uint32
	Modified time.Time
	// Target of a symbolic link.
	Target string
}

// Content is a file or a piece of it.
type Content struct {
	File File
	// Offset of Data in the file.
	Offset uint64
	Data   []byte
	// Truncated: the file goes on after Data.
	Truncated bool
}

// WriteOptions say how a file is written.
type WriteOptions struct {
	// Mode are the permission bits; nil: those of the file that is replaced, else 0644.
	Mode *uint32
	// Append adds to the file, which is made when it is missing.
	Append bool
}

// WriteFile replaces a file as a whole, or adds to it, and makes missing parent
// directories.
func (m *Manager) WriteFile(ctx context.Context, id, name string, data []byte, o WriteOptions) (f File, err error) {
	var wrong error
	if o.Mode != nil && *o.Mode > 0o777 {
		wrong = invalid("mode", "%#o has bits besides 0777", *o.Mode)
	}
	if strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") || strings.HasSuffix(name, "/..") {
		wrong = errors.Join(wrong, invalid("path", "%q names a directory: give the path of a file, such as %s", plain(name, 128), path.Join("/", plain(name, 128), "data.csv")))
	}
	err = m.fileCall(ctx, id, name, wrong, func(ctx context.Context, g *guest.Client, name string) error {
		open := &guestv1.WriteOpen{Path: name, MakeParents: true, Size: new(uint64(len(data))), Mode: o.Mode, Append: o.Append}
		resp, err := g.WriteFile(ctx, open, bytes.NewReader(data))
		if err != nil {
			return guestError(ctx, "write "+name, err)
		}
		f = fileOf(resp.GetEntry())
		return nil
	})
	return f, err
}

// ReadFile reads a file from offset on, at most limit bytes; zero: as much as one
// call returns.
func (m *Manager) ReadFile(ctx context.Context, id, name string, offset, limit int64) (c Content, err error) {
	var wrong error
	if offset < 0 {
		wrong = invalid("offset", "is negative: it counts bytes from the beginning")
	}
	if limit < 0 || limit > MaxRead {
		wrong = errors.Join(wrong, invalid("limit", "must be 1 to %d, or left out", MaxRead))
	}
	if limit == 0 {
		limit = MaxRead
	}
	err = m.fileCall(ctx, id, name, wrong, func(ctx context.Context, g *guest.Client, name string) error {
		var data bytes.Buffer
		// One byte more says whether the file goes on. Its size does not: that of a
		// file below /proc is 0, that of one below /sys a page.
		req := &guestv1.FilesystemReadRequest{Path: name, Offset: uint64(offset), Limit: uint64(limit) + 1}
		entry, err := g.ReadFile(ctx, req, &data)
		if err != nil {
			return guestError(ctx, "read "+name, err)
		}
		c = Content{File: fileOf(entry), Offset: uint64(offset), Data: data.Bytes()}
		return nil
	})
	if err != nil {
		return Content{}, err
	}
	if int64(len(c.Data)) > limit {
		c.Truncated, c.Data = true, c.Data[:limit]
		// The next piece begins with the whole character, unless there would be
		// nothing in this one.
		if text := trimEnd(c.Data); len(text) > 0 && utf8.Valid(text) {
			c.Data = text
		}
	}
	return c, nil
}

// workingDir is where an environment's code runs.
func (m *Manager) workingDir(ctx context.Context, id string) (string, error) {
	ctx, c, err := m.begin(ctx, id)
	if err != nil {
		return "", err
	}
	defer c.done()
	k, err := m.kit(ctx, c)
	if err != nil {
		return "", c.explain(ctx, err)
	}
	return k.dir, nil
}

// fileCall checks what all file operations take, beside what is wrong with the
// call already, and runs one.
func (m *Manager) fileCall(
	ctx context.Context, id, name string, wrong error, do func(context.Context, *guest.Client, string) error,
) error {
	if err := errors.Join(checkID(id), checkPath(name), wrong); err != nil {
		return err
	}
	ctx, c, err := m.begin(ctx, id)
	if err != nil {
		return err
	}
	defer c.done()
	fileCtx, cancel := context.WithTimeoutCause(ctx, fileTimeout, fmt.Errorf("%w: %w", ErrLost, errNoAnswer))
	defer cancel()
	return c.explain(ctx, do(fileCtx, c.machine.Guest(), path.Clean(name)))
}

func checkPath(name string) error {
	switch {
	case name == "":
		return invalid("path", "is empty: give an absolute path, such as %s/data.csv", Home)
	case !strings.HasPrefix(name, "/"):
		return invalid("path", "%q is relative: give an absolute path, such as %s", plain(name, 128), path.Join(Home, plain(name, 128)))
	case len(name) > MaxPath:
		return invalid("path", "is %d bytes long, the most is %d", len(name), MaxPath)
	case strings.ContainsRune(name, 0) || !utf8.ValidString(name):
		return invalid("path", "holds a NUL byte or is not UTF-8")
	}
	return nil
}

var fileTypes = map[guestv1.FileType]string{
	guestv1.FileType_FILE_TYPE_REGULAR:   "file",
	guestv1.FileType_FILE_TYPE_DIRECTORY: "directory",
	guestv1.FileType_FILE_TYPE_SYMLINK:   "symlink",
}

func fileOf(e *guestv1.Entry) File {
	f := File{
		Path: plain(e.GetPath(), MaxPath), Type: fileTypes[e.GetType()], Size: e.GetSize(), Mode: e.GetMode() & 0o7777,
		Modified: e.GetModifiedAt().AsTime(), Target: plain(e.GetLinkTarget(), MaxPath),
	}
	if f.Type == "" {
		f.Type = "other"
	}
	return f
}
