// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"errors"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of an ExecRequest, beside MaxCode.
const (
	// MaxCommand is the most elements of Command, MaxCommandBytes the most bytes of
	// all of them together, and maxArg of one: the kernel takes no longer one.
	MaxCommand      = 1024
	MaxCommandBytes = 512 << 10
	maxArg          = 128<<10 - 1
	// MaxEnv is the most variables of Env, and MaxEnvBytes the most bytes of all
	// names and values together.
	MaxEnv      = 128
	MaxEnvBytes = 128 << 10
	// MaxStdin is the most bytes of Stdin.
	MaxStdin = 1 << 20
	// MaxExecutionID is the longest ExecutionID.
	MaxExecutionID = 64
)

// ExecutionIDPattern is what an ExecutionID is made of.
const ExecutionIDPattern = `^[A-Za-z0-9._-]{1,64}$`

var executionID = regexp.MustCompile(ExecutionIDPattern)

func checkExecutionID(id string) error {
	if !executionID.MatchString(id) {
		return invalid("execution_id", "must be 1 to %d characters of A-Z a-z 0-9 . _ -", MaxExecutionID)
	}
	return nil
}

// checkExec checks a request and completes it, but for the language.
func (m *Manager) checkExec(req *ExecRequest) error {
	errs := []error{m.checkSource(req), checkSurroundings(req)}
	if req.ExecutionID != "" {
		errs = append(errs, checkExecutionID(req.ExecutionID))
	}
	if req.Timeout < 0 || req.Timeout > m.cfg.ExecMax {
		errs = append(errs, invalid("timeout_seconds", "must be 1 to %d, or left out for %g",
			int(m.cfg.ExecMax.Seconds()), m.cfg.ExecDefault.Seconds()))
	}
	if req.Timeout == 0 {
		req.Timeout = m.defaultTimeout(req.Background)
	}
	return errors.Join(errs...)
}

func (m *Manager) defaultTimeout(background bool) time.Duration {
	if background {
		return m.cfg.ExecMax
	}
	return m.cfg.ExecDefault
}

// checkSource checks what is to run.
func (m *Manager) checkSource(req *ExecRequest) error {
	var errs []error
	if req.Command != nil {
		if req.Code != "" {
			errs = append(errs, invalid("code", "and command are both given: leave one of them out"))
		}
		if req.Language != "" {
			errs = append(errs, invalid("language", "is of code, and command is given: leave it out"))
		}
		return errors.Join(append(errs, checkCommand(req.Command))...)
	}
	if strings.TrimSpace(req.Code) == "" {
		errs = append(errs, invalid("code", "is empty: give the source to run, or a program with its arguments as command"))
	}
	if len(req.Code) > MaxCode {
		errs = append(errs, invalid("code", "is %d bytes long, the most is %d: write data to files with write_file", len(req.Code), MaxCode))
	}
	if strings.ContainsRune(req.Code, 0) {
		errs = append(errs, invalid("code", "holds a NUL byte"))
	}
	if req.Language != "" {
		if _, err := m.runtimeOf("language", req.Language); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func checkCommand(command []string) error {
	if len(command) == 0 || command[0] == "" {
		return invalid("command", "must begin with a program, such as [\"ls\", \"-l\"]")
	}
	if len(command) > MaxCommand {
		return invalid("command", "has %d elements, the most is %d: write the arguments to a file", len(command), MaxCommand)
	}
	total := 0
	for i, arg := range command {
		total += len(arg)
		if len(arg) > maxArg {
			return invalid("command", "element %d is %d bytes long, the most is %d: hand it in by stdin or a file", i, len(arg), maxArg)
		}
		if strings.ContainsRune(arg, 0) || !utf8.ValidString(arg) {
			return invalid("command", "element %d holds a NUL byte or is not UTF-8", i)
		}
	}
	if total > MaxCommandBytes {
		return invalid("command", "is %d bytes long, the most is %d: hand it in by stdin or a file", total, MaxCommandBytes)
	}
	return nil
}

// checkSurroundings checks where it runs, and with what.
func checkSurroundings(req *ExecRequest) error {
	var errs []error
	if req.Cwd != "" {
		switch {
		case !path.IsAbs(req.Cwd):
			errs = append(errs, invalid("cwd", "%q is relative: give an absolute path, such as %s", plain(req.Cwd, 128), path.Join(Home, plain(req.Cwd, 128))))
		case len(req.Cwd) > MaxPath:
			errs = append(errs, invalid("cwd", "is %d bytes long, the most is %d", len(req.Cwd), MaxPath))
		case strings.ContainsRune(req.Cwd, 0) || !utf8.ValidString(req.Cwd):
			errs = append(errs, invalid("cwd", "holds a NUL byte or is not UTF-8"))
		}
	}
	if len(req.Stdin) > MaxStdin {
		errs = append(errs, invalid("stdin", "is %d bytes long, the most is %d: write it to a file with write_file", len(req.Stdin), MaxStdin))
	}
	return errors.Join(append(errs, checkEnv(req.Env))...)
}

func checkEnv(env map[string]string) error {
	if len(env) > MaxEnv {
		return invalid("env", "has %d variables, the most is %d: write them to a file", len(env), MaxEnv)
	}
	total := 0
	for name, value := range env {
		total += len(name) + len(value)
		if name == "" || strings.ContainsAny(name, "=\x00") || !utf8.ValidString(name) {
			return invalid("env", "%q is no name of a variable", plain(name, 64))
		}
		if strings.ContainsRune(value, 0) || !utf8.ValidString(value) {
			return invalid("env", "the value of %q holds a NUL byte or is not UTF-8", plain(name, 64))
		}
		if len(name)+1+len(value) > maxArg {
			return invalid("env", "the value of %q is %d bytes long, the most is about %d: write it to a file", plain(name, 64), len(value), maxArg)
		}
	}
	if total > MaxEnvBytes {
		return invalid("env", "is %d bytes long, the most is %d: write the values to a file", total, MaxEnvBytes)
	}
	return nil
}
