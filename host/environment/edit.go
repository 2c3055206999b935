// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// MaxEdit is the largest file that can be edited, in bytes.
const MaxEdit = 8 << 20

// Edit is an exact replacement in a text file.
type Edit struct {
	Old, New string
	// Count is how often Old must be there; all are replaced. Zero: once.
	Count int
}

// Edited is what became of a file.
type Edited struct {
	File File
	// Line is that of the first replacement, counted from 1.
	Line int
	// Count is how many were made.
	Count int
}

// EditFile replaces text in a file, or leaves it as it is: when the text is not there as
// often as expected, and when somebody else has changed the file meanwhile. Between the
// last look and the write, which replaces the file as a whole, is a moment in which a
// change would be lost.
func (m *Manager) EditFile(ctx context.Context, id, name string, e Edit) (out Edited, err error) {
	if e.Count == 0 {
		e.Count = 1
	}
	err = m.fileCall(ctx, id, name, e.check(), func(ctx context.Context, g *guest.Client, name string) error {
		var data bytes.Buffer
		before, err := g.ReadFile(ctx, &guestv1.FilesystemReadRequest{Path: name, Limit: MaxEdit + 1}, &data)
		if err != nil {
			return guestError(ctx, "read "+name, err)
		}
		text := data.String()
		switch {
		case len(text) > MaxEdit:
			return fmt.Errorf("%w: %s has more than %d bytes: change it with a program, by execute", ErrEdit, name, MaxEdit)
		case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
			return fmt.Errorf("%w: %s is no text in UTF-8: change it with a program, by execute", ErrEdit, name)
		}
		if n := strings.Count(text, e.Old); n != e.Count {
			return fmt.Errorf("%w: old_text is in %s %s, expected %s%s", ErrEdit, name, times(n), times(e.Count), nearest(text, e.Old, n))
		}
		now, err := g.Stat(ctx, &guestv1.FilesystemStatRequest{Path: name})
		if err != nil {
			return guestError(ctx, "look at "+name, err)
		}
		if now.GetSize() != before.GetSize() || !now.GetModifiedAt().AsTime().Equal(before.GetModifiedAt().AsTime()) {
			return fmt.Errorf("%w: %s was changed meanwhile: read it again", ErrEdit, name)
		}
		changed := strings.ReplaceAll(text, e.Old, e.New)
		resp, err := g.WriteFile(ctx, &guestv1.WriteOpen{Path: name, Size: new(uint64(len(changed)))}, strings.NewReader(changed))
		if err != nil {
			return guestError(ctx, "write "+name, err)
		}
		at := strings.Index(text, e.Old)
		out = Edited{File: fileOf(resp.GetEntry()), Line: 1 + strings.Count(text[:at], "\n"), Count: e.Count}
		return nil
	})
	return out, err
}

func (e Edit) check() (err error) {
	if e.Old == "" {
		err = errors.Join(err, invalid("old_text", "is empty: give the text to replace, or use write_file"))
	}
	if e.Old == e.New {
		err = errors.Join(err, invalid("new_text", "is the same as old_text"))
	}
	if e.Count < 1 || e.Count > MaxEdit {
		err = errors.Join(err, invalid("expected_count", "must be 1 or more"))
	}
	return err
}

func times(n int) string {
	switch n {
	case 0:
		return "nowhere"
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// nearest says where text is that differs from old in its white space only, or how to
// tell several places apart.
func nearest(text, old string, n int) string {
	if n > 0 {
		return ": give more of the lines around it, or the count"
	}
	var first string
	for line := range strings.Lines(old) {
		if first = strings.TrimSpace(line); first != "" {
			break
		}
	}
	number := 0
	for line := range strings.Lines(text) {
		number++
		if first != "" && strings.Contains(line, first) {
			return fmt.Sprintf("; line %d has its first line: %q. White space and line ends must be the same", number, plain(strings.TrimRight(line, "\n"), 200))
		}
	}
	return ": read the file again"
}
