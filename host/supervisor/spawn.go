// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// reportFD is where a spawned supervisor reports; see Report.
const reportFD = 3

// maxReport bounds that report, in bytes.
const maxReport = 16 << 10

// childEnv are the variables that a supervisor gets. The server's others are
// not its business: they may hold tokens.
var childEnv = []string{"PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "GOTRACEBACK", "GOCOVERDIR", "WAGGLE_DEBUG"}

// SpawnOptions says how to start a supervisor.
type SpawnOptions struct {
	// Exe is the waggle binary, run as `Exe Args... --dir DIR`. Args is
	// "supervise" if nil.
	Exe  string
	Args []string
	// Env is added to the few variables that a supervisor gets anyway.
	Env []string
	// RunDir holds the machines' directories.
	RunDir string
	Spec   Spec
}

// Spawn starts a supervisor in a session of its own and returns when its control
// API answers; the machine boots from then on. ctx bounds Spawn alone. After an
// error nothing is left.
func Spawn(ctx context.Context, o SpawnOptions) (*Client, error) {
	if err := o.Spec.Check(); err != nil {
		return nil, fmt.Errorf("start environment: %w", err)
	}
	dir := filepath.Join(o.RunDir, o.Spec.ID)
	if err := CheckRunDir(o.RunDir, o.Spec.ID); err != nil {
		return nil, fmt.Errorf("start environment: %w", err)
	}
	if err := claim(ctx, dir, o.Spec); err != nil {
		return nil, fmt.Errorf("start environment %s: %w", o.Spec.ID, err)
	}
	err := spawn(ctx, o, dir)
	if err == nil {
		var c *Client
		if c, err = Attach(dir); err == nil {
			return c, nil
		}
		err = orEnded(dir, err)
	}
	_ = os.RemoveAll(dir)
	return nil, fmt.Errorf("start environment %s: %w", o.Spec.ID, err)
}

// claim makes the machine's directory with a record in it, in one step: whoever
// finds the directory can tell whose it is and whether that one still lives.
func claim(ctx context.Context, dir string, spec Spec) error {
	record, err := newRecord(spec)
	if err != nil {
		return err
	}
	unlock, err := lockDir(ctx, filepath.Dir(dir), false) // keeps SweepClaims away
	if err != nil {
		return err
	}
	defer unlock()
	temp, err := os.MkdirTemp(filepath.Dir(dir), claimPrefix)
	if err != nil {
		return err
	}
	if err = record.write(temp); err == nil {
		err = os.Rename(temp, dir)
	}
	if err != nil {
		_ = os.RemoveAll(temp)
		if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
			return errors.New("an environment with this id exists")
		}
	}
	return err
}

func spawn(ctx context.Context, o SpawnOptions, dir string) error {
	spec, err := json.Marshal(o.Spec)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(LogPath(dir), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	report, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = report.Close() }()

	args := o.Args
	if args == nil {
		args = []string{"supervise"}
	}
	cmd := exec.Command(o.Exe, append(slices.Clone(args), "--dir", dir)...)
	cmd.Dir = "/"
	cmd.Env = o.Env
	for _, name := range childEnv {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Stdin = bytes.NewReader(spec)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		return err
	}
	// The supervisor outlives this function and perhaps this process; while it
	// does not, somebody has to reap it.
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	if err := awaitReport(ctx, report); err != nil {
		_ = cmd.Process.Kill()
		<-exited
		if errors.Is(err, errSilent) {
			err = fmt.Errorf("%w (%s): %s", err, cmd.ProcessState, logTail(dir))
		}
		return err
	}
	return nil
}

// errSilent is a supervisor that ended without a report.
var errSilent = errors.New("its supervisor ended at once")

func awaitReport(ctx context.Context, report *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = report.Close() })
	defer stop()
	text, err := io.ReadAll(io.LimitReader(report, maxReport))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	failure, failed := strings.CutPrefix(string(text), "error: ")
	switch {
	case failed:
		return errors.New(strings.TrimSpace(failure))
	case string(text) == "listening\n":
		return nil
	}
	return errSilent
}

func logTail(dir string) string {
	text, err := os.ReadFile(LogPath(dir))
	if err != nil {
		return "no log"
	}
	return strings.TrimSpace(Printable(string(text[max(0, len(text)-2048):])))
}

// Report is the spawned supervisor's end of the pipe to Spawn. The first call of
// a method counts, later ones do nothing.
type Report struct{ pipe *os.File }

// OpenReport takes over the descriptor that Spawn left. Without a Spawn, as when
// somebody tries the command by hand, it reports to nobody.
func OpenReport() *Report {
	var st syscall.Stat_t
	if err := syscall.Fstat(reportFD, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return &Report{}
	}
	syscall.CloseOnExec(reportFD)
	return &Report{pipe: os.NewFile(reportFD, "report")}
}

// Listening says that the control API answers.
func (r *Report) Listening() { r.send("listening\n") }

// Failed says that it never will.
func (r *Report) Failed(err error) { r.send("error: " + err.Error() + "\n") }

func (r *Report) send(text string) {
	if r.pipe == nil {
		return
	}
	// Spawn may be gone: then nobody wants to know.
	_, _ = io.WriteString(r.pipe, text[:min(len(text), maxReport)])
	_ = r.pipe.Close()
	r.pipe = nil
}
