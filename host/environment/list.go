// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/bmatcuk/doublestar/v4"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// DefaultEntries and MaxEntries are how much one ListFiles returns.
	DefaultEntries = 1000
	MaxEntries     = 10_000
	// MaxGlob is the longest pattern, in bytes.
	MaxGlob = 1024
	// listPage is what is asked of the guest at once, listPages how often in one
	// call: a pattern may fit nothing of a large tree.
	listPage  = 1000
	listPages = 200
	listDepth = 64 // the contract's most
	// maxUnreadable bounds what a listing tells of what could not be read.
	maxUnreadable = 20
	maxCursor     = 8 << 10
)

// ListOptions say what of a directory is listed.
type ListOptions struct {
	// Recursive: the directories below too, 64 levels at most.
	Recursive bool
	// Glob is a pattern of paths relative to the directory, such as src/**/*.py, which
	// makes it recursive; without a slash it is one of names. Empty: all.
	Glob string
	// Limit is the most files, zero: DefaultEntries.
	Limit int
	// Cursor is the Next of a listing with the same options.
	Cursor string
}

// Listing is the content of a directory.
type Listing struct {
	Path  string
	Files []File
	// Next is where more follow; empty: there are none.
	Next string
	// Unreadable are directories and files that could not be looked at, with the
	// reason; the first of them.
	Unreadable []string
}

// cursor is where a listing goes on: on a page of the guest's, behind some entries.
type cursor struct {
	Page string `json:"p,omitempty"`
	Skip int    `json:"s,omitempty"`
}

// ListFiles lists a directory; an empty name is the working directory of code.
func (m *Manager) ListFiles(ctx context.Context, id, name string, o ListOptions) (l Listing, err error) {
	at, wrong := checkList(&o)
	if name == "" && wrong == nil {
		if name, err = m.workingDir(ctx, id); err != nil {
			return Listing{}, err
		}
	}
	err = m.fileCall(ctx, id, name, wrong, func(ctx context.Context, g *guest.Client, name string) error {
		l = Listing{Path: name, Files: []File{}}
		return l.fill(ctx, g, o, at)
	})
	return l, err
}

func checkList(o *ListOptions) (at cursor, err error) {
	if o.Limit < 0 || o.Limit > MaxEntries {
		err = errors.Join(err, invalid("limit", "must be 1 to %d, or left out for %d", MaxEntries, DefaultEntries))
	}
	if o.Limit == 0 {
		o.Limit = DefaultEntries
	}
	if len(o.Glob) > MaxGlob || !doublestar.ValidatePattern(o.Glob) || strings.HasPrefix(o.Glob, "/") {
		err = errors.Join(err, invalid("glob", "%q is no pattern: * and ? stay within a name, ** goes through directories, "+
			"[a-z] and {a,b} choose; it is relative to path", plain(o.Glob, 128)))
	}
	switch {
	case strings.Contains(o.Glob, "/"):
		o.Recursive = true
	case o.Glob != "" && o.Recursive:
		o.Glob = "**/" + o.Glob
	}
	if o.Cursor != "" {
		data, bad := base64.RawURLEncoding.DecodeString(o.Cursor)
		if bad == nil {
			bad = json.Unmarshal(data, &at)
		}
		if bad != nil || len(o.Cursor) > maxCursor || at.Skip < 0 || at.Skip > listPage {
			err = errors.Join(err, invalid("cursor", "is not one that list_files returned: leave it out to begin at the start"))
		}
	}
	return at, err
}

// fill goes through the guest's pages until there is enough.
func (l *Listing) fill(ctx context.Context, g *guest.Client, o ListOptions, at cursor) error {
	req := &guestv1.FilesystemListRequest{Path: l.Path, PageSize: listPage, PageToken: at.Page}
	if o.Recursive {
		req.Depth = listDepth
	}
	for range listPages {
		resp, err := g.Filesystem().List(ctx, connect.NewRequest(req))
		if err != nil {
			return guestError(ctx, "list "+l.Path, err)
		}
		entries := resp.Msg.GetEntries()
		if len(entries) > listPage {
			return fmt.Errorf("%w: list %s: the guest sent more than was asked for", ErrLost, l.Path)
		}
		l.cannotRead(resp.Msg.GetErrors())
		for i, e := range entries {
			if i < at.Skip || !l.wanted(o.Glob, e) {
				continue
			}
			if len(l.Files) == o.Limit {
				return l.stop(cursor{req.GetPageToken(), i})
			}
			l.Files = append(l.Files, fileOf(e))
		}
		next := resp.Msg.GetNextPageToken()
		if next == "" || len(entries) == 0 {
			return nil
		}
		at.Skip, req.PageToken = 0, next
	}
	return l.stop(cursor{Page: req.GetPageToken()})
}

// wanted says whether a pattern fits a path.
func (l *Listing) wanted(glob string, e *guestv1.Entry) bool {
	if glob == "" {
		return true
	}
	relative := strings.TrimPrefix(strings.TrimPrefix(e.GetPath(), l.Path), "/")
	ok, err := doublestar.Match(glob, relative)
	return ok && err == nil // the pattern was checked
}

func (l *Listing) stop(at cursor) error {
	data, err := json.Marshal(at)
	if err != nil {
		return fmt.Errorf("list %s: %w", l.Path, err)
	}
	l.Next = base64.RawURLEncoding.EncodeToString(data)
	if len(l.Next) > maxCursor {
		return fmt.Errorf("%w: list %s: the guest's page token is too long", ErrLost, l.Path)
	}
	return nil
}

func (l *Listing) cannotRead(errs []*guestv1.FileError) {
	for _, e := range errs {
		if len(l.Unreadable) < maxUnreadable {
			l.Unreadable = append(l.Unreadable, plain(e.GetPath(), MaxPath)+": "+plain(e.GetErrnoName(), 64))
		}
	}
}
