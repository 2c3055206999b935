// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"path"
	"strings"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	defaultPage = 1000
	maxPage     = 10000
	maxDepth    = 64
	maxErrors   = 100
	// maxPageBytes ends a page early, so that an answer stays small.
	maxPageBytes = 2 << 20
)

// List describes the entries of a directory in the order of a walk: paths are
// compared name by name, so that a directory comes right before what is in it.
// The place where a page begins is a path, not a position: entries made or
// removed between two pages move none of the others.
func (s *Service) List(
	ctx context.Context, req *connect.Request[guestv1.FilesystemListRequest],
) (*connect.Response[guestv1.FilesystemListResponse], error) {
	msg := req.Msg
	if err := checkPath("path", msg.GetPath()); err != nil {
		return nil, err
	}
	if msg.GetDepth() > maxDepth {
		return nil, invalid("depth", "is above %d", maxDepth)
	}
	if msg.GetPageSize() > maxPage {
		return nil, invalid("page_size", "is above %d", maxPage)
	}
	after, err := parseToken(msg.GetPath(), msg.GetPageToken())
	if err != nil {
		return nil, err
	}
	l := &lister{
		ctx: ctx, root: msg.GetPath(), depth: max(1, int(msg.GetDepth())),
		left: int(msg.GetPageSize()), bytes: maxPageBytes, res: &guestv1.FilesystemListResponse{},
	}
	if l.left == 0 {
		l.left = defaultPage
	}
	err = s.as(msg.GetAsRoot(), func() error { return l.run(after) })
	if err != nil {
		return nil, answer(err)
	}
	return connect.NewResponse(l.res), nil
}

// A token is the path of the last entry below the listed directory, after a sum over
// both, by which a token of another directory, and what is none at all, are noticed.
func formatToken(root, rel string) string {
	return base64.RawURLEncoding.EncodeToString(append(tokenSum(root, rel), rel...))
}

func tokenSum(root, rel string) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(root+"\x00"+rel)))
}

// parseToken returns the names of a token's path, none for the first page.
func parseToken(root, token string) ([]string, error) {
	if token == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < crc32.Size || !bytes.Equal(raw[:crc32.Size], tokenSum(root, string(raw[crc32.Size:]))) {
		return nil, invalid("page_token", "is not one of this directory's")
	}
	names := strings.Split(string(raw[crc32.Size:]), "/")
	for _, name := range names {
		if name == "" || name == "." || name == ".." || strings.ContainsRune(name, 0) {
			return nil, invalid("page_token", "is not one of this directory's")
		}
	}
	return names, nil
}

// errPageFull ends a walk.
var errPageFull = errors.New("page is full")

// lister makes one page.
type lister struct {
	ctx         context.Context // of the request
	root        string
	depth       int
	left, bytes int    // room in the page
	last        string // path of the last entry, relative to root
	res         *guestv1.FilesystemListResponse
}

func (l *lister) run(after []string) error {
	fd, err := open(unix.AT_FDCWD, l.root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fail("open", l.root, err)
	}
	err = l.walk(fd, "", 1, after)
	if errors.Is(err, errPageFull) {
		l.res.NextPageToken = formatToken(l.root, l.last)
		return nil
	}
	return err
}

// walk lists the directory fd, which it closes. It goes on behind the names of
// after, the first of which is in this directory.
func (l *lister) walk(fd int, rel string, level int, after []string) error {
	defer unix.Close(fd)
	cursor := ""
	if len(after) > 0 {
		cursor = after[0]
		if err := l.descend(fd, path.Join(rel, cursor), cursor, level, after[1:]); err != nil {
			return err
		}
	}
	for {
		// One more than there is room for says whether another page follows.
		limit := min(l.left+1, batchSize(level))
		names, err := smallest(fd, cursor, limit)
		if err != nil {
			l.report("readdir", rel, err)
			return nil
		}
		for _, name := range names {
			if err := l.emit(fd, rel, name, level); err != nil {
				return err
			}
		}
		if len(names) < limit {
			return nil
		}
		cursor = names[len(names)-1]
	}
}

// emit adds an entry and what is below it.
func (l *lister) emit(fd int, rel, name string, level int) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	rel = path.Join(rel, name)
	entry, err := entryAt(fd, name, l.absolute(rel), true)
	if err != nil && !errors.Is(err, unix.ENOENT) { // else it was removed since
		l.report("stat", rel, err)
	}
	if entry == nil {
		return nil
	}
	size := proto.Size(entry)
	if l.left == 0 || (l.bytes < size && len(l.res.Entries) > 0) {
		return errPageFull
	}
	l.res.Entries = append(l.res.Entries, entry)
	l.left--
	l.bytes -= size
	l.last = rel
	if entry.GetType() != guestv1.FileType_FILE_TYPE_DIRECTORY {
		return nil
	}
	return l.descend(fd, rel, name, level, nil)
}

// descend lists the directory name of the directory fd.
func (l *lister) descend(fd int, rel, name string, level int, after []string) error {
	if level >= l.depth {
		return nil
	}
	child, err := open(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil // replaced since, or the file that a page ended with
	case err != nil:
		l.report("open", rel, err)
		return nil
	}
	return l.walk(child, rel, level+1, after)
}

func (l *lister) absolute(rel string) string {
	return strings.TrimRight(l.root, "/") + "/" + rel
}

// report notes what could not be read. An error that says itself what was done need
// not be told.
func (l *lister) report(operation, rel string, err error) {
	if len(l.res.Errors) >= maxErrors {
		return
	}
	failed := &fileError{operation: operation, path: display(l.absolute(rel)), err: err}
	errors.As(err, &failed)
	detail, _ := failed.detail()
	l.res.Errors = append(l.res.Errors, detail)
}
