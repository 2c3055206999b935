// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// maxPath bounds a path in bytes.
const maxPath = 4096

// Service answers Filesystem. Its methods may be called concurrently.
type Service struct {
	guestv1connect.UnimplementedFilesystemHandler
	user func() (User, error)
}

// New returns a Service. user is asked for each call who the workload user is.
func New(user func() (User, error)) *Service { return &Service{user: user} }

func invalid(field, format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(field+": "+format, args...))
}

// checkPath refuses what no kernel should be asked for.
func checkPath(field, path string) error {
	switch {
	case path == "":
		return invalid(field, "is required")
	case len(path) > maxPath:
		return invalid(field, "is longer than %d bytes", maxPath)
	case !strings.HasPrefix(path, "/"):
		return invalid(field, "%q is not absolute", path)
	case strings.ContainsRune(path, 0):
		return invalid(field, "holds a NUL")
	case !utf8.ValidString(path):
		return invalid(field, "is not UTF-8")
	}
	return nil
}

// fileError is a failed step on a file.
type fileError struct {
	operation, path string
	err             error
}

func (e *fileError) Error() string { return e.operation + " " + e.path + ": " + e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// fail describes a failed step; nil when err is nil.
func fail(operation, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fileError{operation: operation, path: display(path), err: err}
}

// codes of what the kernel says; all others are Internal.
var codes = map[unix.Errno]connect.Code{
	unix.ENOENT: connect.CodeNotFound,

	unix.EACCES: connect.CodePermissionDenied,
	unix.EPERM:  connect.CodePermissionDenied,

	unix.EISDIR:    connect.CodeFailedPrecondition,
	unix.ENOTDIR:   connect.CodeFailedPrecondition,
	unix.ELOOP:     connect.CodeFailedPrecondition,
	unix.ENOTEMPTY: connect.CodeFailedPrecondition,
	unix.EROFS:     connect.CodeFailedPrecondition,
	unix.EBUSY:     connect.CodeFailedPrecondition,
	unix.ETXTBSY:   connect.CodeFailedPrecondition,
	unix.EXDEV:     connect.CodeFailedPrecondition,
	unix.ENXIO:     connect.CodeFailedPrecondition,
	unix.ENODEV:    connect.CodeFailedPrecondition,

	unix.EEXIST: connect.CodeAlreadyExists,

	unix.ENOSPC: connect.CodeResourceExhausted,
	unix.EDQUOT: connect.CodeResourceExhausted,
	unix.EMFILE: connect.CodeResourceExhausted,
	unix.ENFILE: connect.CodeResourceExhausted,
	unix.ENOMEM: connect.CodeResourceExhausted,

	unix.EINVAL:       connect.CodeInvalidArgument,
	unix.ENAMETOOLONG: connect.CodeInvalidArgument,
	unix.EFBIG:        connect.CodeInvalidArgument,
}

// detail is what a client can act on. errno is 0 when the kernel had no part.
func (e *fileError) detail() (*guestv1.FileError, unix.Errno) {
	detail := &guestv1.FileError{Path: e.path, Operation: e.operation}
	var errno unix.Errno
	if errors.As(e.err, &errno) {
		detail.Errno = int32(errno)
		detail.ErrnoName = unix.ErrnoName(errno)
	}
	return detail, errno
}

// answer turns the error of a call into one for the client, with its detail.
func answer(err error) error {
	var file *fileError
	if err == nil || !errors.As(err, &file) {
		return err
	}
	detail, errno := file.detail()
	code, ok := codes[errno]
	if errors.Is(err, errNotRegular) {
		code = connect.CodeFailedPrecondition
	} else if !ok {
		code = connect.CodeInternal
	}
	out := connect.NewError(code, err)
	if d, err := connect.NewErrorDetail(detail); err == nil {
		out.AddDetail(d)
	}
	return out
}
