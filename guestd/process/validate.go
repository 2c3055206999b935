// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"fmt"
	"path"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Limits of what a caller may send. What is within them and still too much for
// the kernel becomes a spawn failure.
const (
	maxID          = 128
	maxStart       = 4 << 20 // bytes of a whole start
	maxArgs        = 1 << 16
	maxEnv         = 1 << 12
	maxPath        = 4096
	maxName        = 256
	maxTerm        = 64
	maxStdin       = 1 << 20
	maxTimeout     = 365 * 24 * time.Hour
	maxGrace       = 60 * time.Second
	maxOutput      = 1 << 30
	maxSize        = 4096
	defaultOutput  = 64 << 20
	defaultGrace   = 500 * time.Millisecond
	defaultRows    = 24
	defaultCols    = 80
	maxSignal      = 64
	commandPreview = 1024
)

func invalid(field, format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(field+": "+format, args...))
}

func checkID(field, id string) error {
	if id == "" || len(id) > maxID {
		return invalid(field, "must have 1 to %d characters, has %d", maxID, len(id))
	}
	for i, c := range []byte(id) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
		if !letter && (i == 0 || c != '.' && c != '-') {
			return invalid(field, "must be of [A-Za-z0-9._-] and not begin with '.' or '-'")
		}
	}
	return nil
}

func checkStart(s *guestv1.Start) error {
	if n := proto.Size(s); n > maxStart {
		return invalid("start", "has %d bytes, at most %d are allowed", n, maxStart)
	}
	for _, check := range []func(*guestv1.Start) error{
		func(s *guestv1.Start) error { return checkID("exec_id", s.GetExecId()) },
		checkCommand, checkEnv, checkWho, checkHow, checkTimes,
	} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func checkCommand(s *guestv1.Start) error {
	switch c := s.GetCommand().(type) {
	case *guestv1.Start_Argv:
		args := c.Argv.GetArgs()
		if len(args) == 0 || args[0] == "" {
			return invalid("argv.args", "must name a program")
		}
		if len(args) > maxArgs {
			return invalid("argv.args", "has %d elements, at most %d are allowed", len(args), maxArgs)
		}
		for i, a := range args {
			if strings.ContainsRune(a, 0) {
				return invalid("argv.args", "element %d holds a NUL", i)
			}
		}
	case *guestv1.Start_Shell:
		if c.Shell == "" {
			return invalid("shell", "must not be empty")
		}
		if strings.ContainsRune(c.Shell, 0) {
			return invalid("shell", "holds a NUL")
		}
	default:
		return invalid("command", "must be set: argv or shell")
	}
	return nil
}

func checkEnv(s *guestv1.Start) error {
	if len(s.GetEnv()) > maxEnv {
		return invalid("env", "has %d variables, at most %d are allowed", len(s.GetEnv()), maxEnv)
	}
	for k, v := range s.GetEnv() {
		if k == "" || strings.ContainsAny(k, "=\x00") {
			return invalid("env", "%.64q is no name of a variable", k)
		}
		if strings.ContainsRune(v, 0) {
			return invalid("env", "the value of %.64q holds a NUL", k)
		}
	}
	return nil
}

func checkWho(s *guestv1.Start) error {
	if cwd := s.GetCwd(); cwd != "" {
		if !path.IsAbs(cwd) || len(cwd) > maxPath || strings.ContainsRune(cwd, 0) {
			return invalid("cwd", "must be an absolute path of at most %d bytes", maxPath)
		}
	}
	if u := s.GetUser(); len(u) > maxName || strings.ContainsAny(u, ":\n\x00") {
		return invalid("user", "must be a name or uid of at most %d bytes", maxName)
	}
	if s.GetAsRoot() && s.GetUser() != "" {
		return invalid("user", "excludes as_root; set one of them")
	}
	return nil
}

func checkHow(s *guestv1.Start) error {
	if guestv1.StdinMode_name[int32(s.GetStdinMode())] == "" {
		return invalid("stdin_mode", "%d is unknown", s.GetStdinMode())
	}
	if guestv1.DetachPolicy_name[int32(s.GetOnDetach())] == "" {
		return invalid("on_detach", "%d is unknown", s.GetOnDetach())
	}
	if guestv1.OutputPolicy_name[int32(s.GetOutputPolicy())] == "" {
		return invalid("output_policy", "%d is unknown", s.GetOutputPolicy())
	}
	if s.GetOutputLimitBytes() > maxOutput {
		return invalid("output_limit_bytes", "must be at most %d", maxOutput)
	}
	if p := s.GetPty(); p != nil {
		if len(p.GetTerm()) > maxTerm || strings.ContainsRune(p.GetTerm(), 0) {
			return invalid("pty.term", "must be a name of at most %d bytes", maxTerm)
		}
		if p.GetSize() != nil {
			return checkSize("pty.size", p.GetSize())
		}
	}
	return nil
}

func checkTimes(s *guestv1.Start) error {
	if err := checkDuration("timeout", s.GetTimeout(), maxTimeout); err != nil {
		return err
	}
	return checkDuration("kill_grace", s.GetKillGrace(), maxGrace)
}

func checkDuration(field string, d *durationpb.Duration, most time.Duration) error {
	if d == nil {
		return nil
	}
	if d.CheckValid() != nil || d.AsDuration() < 0 || d.AsDuration() > most {
		return invalid(field, "must be between 0 and %s", most)
	}
	return nil
}

func checkSize(field string, z *guestv1.TerminalSize) error {
	if z.GetRows() < 1 || z.GetRows() > maxSize || z.GetCols() < 1 || z.GetCols() > maxSize {
		return invalid(field, "rows and cols must be between 1 and %d", maxSize)
	}
	return nil
}

func checkSignal(n int32) error {
	if n < 1 || n > maxSignal {
		return invalid("signal", "must be between 1 and %d", maxSignal)
	}
	return nil
}
