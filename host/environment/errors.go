// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/host/guest"
)

// What a caller can act on. Every error of this package that is not a fault of
// Waggle wraps one of these, with the cause in words.
var (
	// ErrInvalidArgument: the text names the parameter and what it must be.
	ErrInvalidArgument = errors.New("invalid argument")
	// ErrInvalidRuntime: the text lists the valid ones.
	ErrInvalidRuntime = errors.New("invalid runtime")
	// ErrNotFound: no environment has this id, or it has ended.
	ErrNotFound = errors.New("no such environment")
	// ErrNotRunning: the environment exists and cannot take calls now.
	ErrNotRunning = errors.New("environment is not running")
	// ErrMaxEnvironments: all slots are taken.
	ErrMaxEnvironments = errors.New("too many environments")
	// ErrInvalidTransition: the environment's state does not allow this.
	ErrInvalidTransition = errors.New("invalid state change")
	// ErrCreate: the machine did not come up. The text has the remedy.
	ErrCreate = errors.New("could not create the environment")
	// ErrDestroy: the machine could not be ended.
	ErrDestroy = errors.New("could not destroy the environment")
	// ErrLost: the environment ended, or stopped answering, during the call.
	ErrLost = errors.New("lost the environment during the call")
	// ErrPaused: the environment stands still; the text says what it waits for.
	ErrPaused = errors.New("environment stands still")
	// ErrNoInterpreter: the image lacks what runs this language.
	ErrNoInterpreter = errors.New("interpreter is not installed")
	// ErrSpawn: the guest could not start the process.
	ErrSpawn = errors.New("could not start the process")
	// ErrNoExecution: no execution has this id, or it is no longer kept.
	ErrNoExecution = errors.New("no such execution")
	// ErrInstall: the package manager failed. The text has its last lines.
	ErrInstall = errors.New("package installation failed")
	// ErrNoManager: the image lacks the package manager. The text names those that
	// it has.
	ErrNoManager = errors.New("package manager is not there")
	// ErrFileNotFound: there is no such file or directory.
	ErrFileNotFound = errors.New("no such file or directory")
	// ErrFilePermission: the workload's user may not do this.
	ErrFilePermission = errors.New("permission denied")
	// ErrFileKind: a directory where a file is needed, or the reverse.
	ErrFileKind = errors.New("wrong kind of file")
	// ErrNotText: a file was asked for as text that is none.
	ErrNotText = errors.New("the file is no text")
	// ErrEdit: a file is not as an edit expects it; nothing was changed.
	ErrEdit = errors.New("the file was not edited")
	// ErrNoSpace: the environment's disk is full.
	ErrNoSpace = errors.New("no space left in the environment")
	// ErrNoPort: nothing listens there.
	ErrNoPort = errors.New("nothing listens on the port")
	// ErrUnsupported: the environment's guestd or image cannot do this.
	ErrUnsupported = errors.New("not supported by this environment")
)

// maxGuestText bounds what a hostile guest can put into an error, in bytes.
const maxGuestText = 2 << 10

// invalid says what is wrong with one parameter.
func invalid(field, format string, args ...any) error {
	return fmt.Errorf("%w: %s %s", ErrInvalidArgument, field, fmt.Sprintf(format, args...))
}

// guestError turns an error of a guest call into one that a user can act on.
// The end of the caller's context is passed on as it is.
func guestError(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	var ce *connect.Error
	if !errors.As(err, &ce) || !connect.IsWireError(err) {
		return fmt.Errorf("%w: %s: %w", ErrLost, op, guest.InWords(err))
	}
	kind := ErrLost
	switch ce.Code() {
	case connect.CodeInvalidArgument, connect.CodeOutOfRange:
		kind = ErrInvalidArgument
	case connect.CodeNotFound:
		kind = ErrFileNotFound
	case connect.CodePermissionDenied:
		kind = ErrFilePermission
	case connect.CodeFailedPrecondition, connect.CodeAlreadyExists:
		kind = ErrFileKind
	case connect.CodeResourceExhausted:
		kind = ErrNoSpace
	case connect.CodeUnimplemented:
		kind = ErrUnsupported
	default:
	}
	return fmt.Errorf("%w: %s: %s", kind, op, plain(ce.Message(), maxGuestText))
}

// plain makes text of the guest safe to show: valid, printable, at most limit
// bytes.
func plain(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + " …"
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
