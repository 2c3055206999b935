// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spawn

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// maxMessage bounds the words of a failure in bytes.
const maxMessage = 4 << 10

// Failure says why a command could not be started.
type Failure struct {
	Kind    guestv1.SpawnFailureKind
	Errno   syscall.Errno // 0 when there is none
	Stage   string
	Message string
}

// Error returns the whole story.
func (f *Failure) Error() string { return f.Message }

// Unwrap returns the errno.
func (f *Failure) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

// Proto returns the failure as the API has it.
func (f *Failure) Proto() *guestv1.SpawnFailure {
	// The message quotes what the caller sent, of any length, and names of files.
	message := strings.ToValidUTF8(f.Message[:min(len(f.Message), maxMessage)], "?")
	p := &guestv1.SpawnFailure{Kind: f.Kind, Errno: int32(f.Errno), Stage: f.Stage, Message: message}
	if f.Errno != 0 {
		p.ErrnoName = unix.ErrnoName(f.Errno)
	}
	return p
}

// NewFailure makes a Failure of any error that came up at a stage. The kind
// follows from the errno as far as that says enough by itself.
func NewFailure(stage string, err error) *Failure {
	if f := (*Failure)(nil); errors.As(err, &f) {
		return f
	}
	f := &Failure{Stage: stage, Message: fmt.Sprintf("%s: %v", stage, err)}
	errors.As(err, &f.Errno)
	switch f.Errno {
	case unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.ENOSPC:
		f.Kind = guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_RESOURCES
	case unix.E2BIG:
		f.Kind = guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_ARGUMENTS_TOO_LARGE
	}
	return f
}

// execFailure explains what fork or exec of a program that exists and may be
// executed said.
func execFailure(program string, err error) *Failure {
	f := NewFailure("exec", err)
	f.Message = fmt.Sprintf("exec %s: %v", program, err)
	switch f.Errno {
	case unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE:
		f.Stage = "fork"
		f.Message = fmt.Sprintf("fork for %s: %v", program, err)
	case unix.EACCES, unix.EPERM:
		f.Kind = guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_PERMISSION
	case unix.ENOENT, unix.ENOTDIR:
		// The program was seen a moment ago, so it is what it names that lacks.
		f.Kind = guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_FORMAT
		f.Message += " (its interpreter or loader is missing)"
	case unix.ENOEXEC:
		f.Kind = guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_FORMAT
		f.Message += " (another architecture, or a script without a #! line)"
	case unix.ELIBBAD, unix.EINVAL, unix.ELOOP:
		f.Kind = guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_FORMAT
	}
	return f
}
