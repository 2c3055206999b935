// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/process/spawn"
	"github.com/stacklok/waggle/guestd/process/spool"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// pipeSize lets a process run ahead while the pump is not scheduled.
	pipeSize = 256 << 10
	// widePipe is the size of a pipe that much comes out of, in bytes: on one CPU the
	// pump and the process take turns as often as that.
	widePipe = 1 << 20
	// wideStdin is the size of a pipe for large input, in bytes: with the kernel's
	// 64 KiB, guestd and the process would take turns as often as that. It is two
	// messages of a client's, so that one need not wait for the end of the other.
	wideStdin         = 1 << 20
	endOfTransmission = 4 // ^D, the end of input on a terminal
)

// stdio is guestd's side of the standard streams of one exec. Closing it ends
// what blocks on it.
type stdio struct {
	stdin    *os.File // a pipe, the terminal, or nil
	terminal *os.File // nil without a pty
	pumps    []*pump
	theirs   []*os.File // the process's side; closed after the start

	mu     sync.Mutex // one writer of stdin at a time, and guards what follows
	closed bool       // stdin
	wide   bool       // stdin has its large pipe
}

// openStdio makes the streams that start asks for.
func openStdio(start *guestv1.Start, user *spawn.User, out *spool.Spool) (*stdio, error) {
	s := &stdio{}
	var err error
	if start.GetPty() != nil {
		err = s.openTerminal(start.GetPty(), user, out)
	} else {
		err = s.openPipes(start.GetStdinMode(), out)
	}
	if err != nil {
		s.closeTheirs()
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stdio) openTerminal(p *guestv1.Pty, user *spawn.User, out *spool.Spool) error {
	master, slave, err := pty.Open()
	if err != nil {
		return spawn.NewFailure("open terminal", err)
	}
	s.stdin, s.terminal = master, master
	s.theirs = []*os.File{slave, slave, slave}
	fd, err := duplicate(master)
	if err != nil {
		return spawn.NewFailure("open terminal", err)
	}
	if err := s.pump(fd, out, spool.Stdout); err != nil {
		return spawn.NewFailure("open terminal", err)
	}
	if os.Geteuid() == 0 {
		// Programs open their terminal by name.
		if err := slave.Chown(int(user.UID), -1); err != nil {
			return spawn.NewFailure("open terminal", err)
		}
	}
	size := p.GetSize()
	if size == nil {
		size = &guestv1.TerminalSize{Rows: defaultRows, Cols: defaultCols}
	}
	if err := s.resize(size); err != nil {
		return spawn.NewFailure("open terminal", err)
	}
	return nil
}

func (s *stdio) openPipes(mode guestv1.StdinMode, out *spool.Spool) error {
	if mode == guestv1.StdinMode_STDIN_MODE_PIPE {
		r, w, err := os.Pipe()
		if err != nil {
			return spawn.NewFailure("open pipe", err)
		}
		s.theirs, s.stdin = append(s.theirs, r), w
	} else {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return spawn.NewFailure("open /dev/null", err)
		}
		s.theirs = append(s.theirs, null)
	}
	for _, to := range []spool.Stream{spool.Stdout, spool.Stderr} {
		if err := s.openOutput(out, to); err != nil {
			return spawn.NewFailure("open pipe", err)
		}
	}
	return nil
}

func (s *stdio) openOutput(out *spool.Spool, to spool.Stream) error {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	s.theirs = append(s.theirs, os.NewFile(uintptr(fds[1]), "output"))
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize) // a wish, see setPipeSize
	return s.pump(fds[0], out, to)
}

// pump has fd, which it takes over, read into the spool.
func (s *stdio) pump(fd int, out *spool.Spool, to spool.Stream) error {
	from, err := newSource(fd)
	if err != nil {
		return err
	}
	s.pumps = append(s.pumps, newPump(from, out, to))
	return nil
}

func duplicate(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	closed := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(closed, os.NewSyscallError("fcntl", err))
}

// setPipeSize is only a wish: a user's pipes may be limited, and a terminal has
// no size.
func setPipeSize(f *os.File, size int) {
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, size) })
	}
}

func (s *stdio) closeTheirs() {
	for _, f := range s.theirs {
		_ = f.Close() // a terminal is there three times
	}
	s.theirs = nil
}

// close closes guestd's side. A second call does nothing.
func (s *stdio) close() {
	if s.stdin != nil {
		_ = s.stdin.Close()
	}
	for _, p := range s.pumps {
		p.from.close()
	}
}

// write feeds the standard input and blocks while the process does not read.
// What a process that has closed its input does not want is dropped.
func (s *stdio) write(ctx context.Context, data []byte) error {
	if s.stdin == nil {
		return connect.NewError(connect.CodeFailedPrecondition,
			errors.New("stdin: the exec has none; start it with stdin_mode STDIN_MODE_PIPE"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("stdin: it was closed before"))
	}
	if len(data) > wideStdin/8 && !s.wide {
		s.wide = true
		setPipeSize(s.stdin, wideStdin)
	}
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		_ = s.stdin.SetWriteDeadline(time.Unix(1, 0))
	})
	_, err := s.stdin.Write(data)
	if !stop() {
		<-cut
		_ = s.stdin.SetWriteDeadline(time.Time{}) // the next stream may write again
		return ctx.Err()
	}
	// EPIPE and EIO: nobody reads any more. ErrClosed: the exec has ended.
	if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.EIO) && !errors.Is(err, os.ErrClosed) {
		return connect.NewError(connect.CodeInternal, fmt.Errorf("write stdin: %w", err))
	}
	return nil
}

// closeStdin makes the process read end of file.
func (s *stdio) closeStdin(ctx context.Context) error {
	if s.stdin == nil {
		return nil
	}
	if s.terminal != nil {
		return s.write(ctx, []byte{endOfTransmission})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	_ = s.stdin.Close() // a pipe has nothing to flush
	return nil
}

func (s *stdio) resize(z *guestv1.TerminalSize) error {
	if s.terminal == nil {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("resize: the exec has no pty"))
	}
	err := pty.Setsize(s.terminal, &pty.Winsize{Rows: uint16(z.GetRows()), Cols: uint16(z.GetCols())})
	if err != nil && !errors.Is(err, os.ErrClosed) {
		return connect.NewError(connect.CodeInternal, fmt.Errorf("resize terminal: %w", err))
	}
	return nil
}
