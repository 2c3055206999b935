// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/tartree"
)

// receiveFile unpacks beside the file's new place and moves it there, so that the
// name is right and the file whole.
func (c *cpCmd) receiveFile(ctx context.Context, g *target, req *guestv1.FilesystemArchiveOutRequest, to string) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(to), ".waggle-cp-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if err := c.receive(ctx, g, req, temp); err != nil {
		return err
	}
	names, err := os.ReadDir(temp)
	if err != nil {
		return err
	}
	if len(names) != 1 || names[0].IsDir() {
		return fmt.Errorf("%s is not a file that can be copied", req.GetPath())
	}
	return os.Rename(filepath.Join(temp, names[0].Name()), to)
}

// receive packs there and unpacks here. The guest's archive stays below to.
func (c *cpCmd) receive(ctx context.Context, g *target, req *guestv1.FilesystemArchiveOutRequest, to string) error {
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // its files are closed and checked
	bar := newBar("copied", c.Quiet)
	defer bar.end()
	r, w := io.Pipe()
	sent := make(chan *guestv1.ArchiveSummary, 1)
	go func() { // ends when r is closed
		done, err := g.ArchiveOut(ctx, req, w)
		sent <- done
		_ = w.CloseWithError(err)
	}()
	_, err = tartree.Unpack(ctx, root, io.TeeReader(r, bar), tartree.Options{Owners: c.AsRoot && os.Getuid() == 0})
	if err == nil {
		_, err = io.Copy(io.Discard, r) // up to the guest's last word
	}
	_ = r.CloseWithError(err)
	done := <-sent
	bar.end()
	if err != nil {
		return err
	}
	return warnGuest(done)
}

// warnGuest is warn for what the guest says.
func warnGuest(done *guestv1.ArchiveSummary) error {
	var unread []string
	for _, e := range done.GetErrors()[:min(len(done.GetErrors()), 20)] {
		unread = append(unread, printable(e.GetPath())+": "+printable(e.GetErrnoName()))
	}
	return warn(done.GetSkipped(), done.GetChanged(), done.GetUnreadable(), unread)
}

// warn says what of a tree was not copied as it is. What could not be read makes it a
// failure, as with cp -r; unread has the first of these.
func warn(skipped, changed, unreadable uint64, unread []string) error {
	if skipped > 0 {
		fmt.Fprintf(os.Stderr, "waggle: left out: %s\n", counted(skipped, "device, FIFO or socket", "devices, FIFOs or sockets"))
	}
	if changed > 0 {
		fmt.Fprintf(os.Stderr, "waggle: changed while copied, and filled up with zeros or cut off: %s\n", counted(changed, "file", "files"))
	}
	if unreadable == 0 {
		return nil
	}
	for _, u := range unread {
		fmt.Fprintf(os.Stderr, "waggle: cannot read %s\n", u)
	}
	return fmt.Errorf("all was copied but for %s that cannot be read", counted(unreadable, "file or directory", "files or directories"))
}
