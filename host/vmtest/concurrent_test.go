// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/supervisor"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// maxExecs at once is below the 512 that guestd allows.
	maxExecs = 500
	// maxCalls at once are answered before the server turns to an event stream,
	// which Session does not read.
	maxCalls = 40
	// settleTime is what guestd and the host get to let go of the last execs.
	settleTime = 10 * time.Second
	// kept is what a load may leave open for the next one: idle connections and
	// threads. A leak would be one for each exec.
	kept = 12
	// maxGoroutines is beyond what serve or supervise need at rest.
	maxGoroutines = 45
)

// numbered is what exec number i does, and what shall come of it: no two are the
// same in all streams.
func numbered(i int) (code, stdout, stderr string, exit int) {
	exit = i % 97
	return fmt.Sprintf("echo out %d; echo err %d >&2; exit %d", i, i, exit),
		fmt.Sprintf("out %d\n", i), fmt.Sprintf("err %d\n", i), exit
}

// TestLoad puts one environment under load: a large file, then small execs all at
// once, through guestd's API and through the tool. Nothing of it is kept.
func TestLoad(t *testing.T) {
	in := Install(t)
	server := in.Serve(t)
	session := server.Connect(t)
	var env environment
	session.Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
	l := &load{session: session, id: env.ID, machine: attach(t, in, env.ID), row: ps(t, in)[env.ID], server: server.cmd.Process.Pid}

	// What the first calls open, the next ones use.
	l.execs(t, "guestd", 4, maxExecs, l.direct)
	l.execs(t, "tool", 4, maxCalls, l.byTool)
	idle := l.counts(t)
	require.Zero(t, idle.cgroups, "control groups of execs that have ended")
	t.Logf("at rest: %+v", idle)
	l.bulk(t)
	l.execs(t, "guestd", sized(200, 2000), maxExecs, l.direct)
	l.execs(t, "tool", sized(40, 2000), maxCalls, l.byTool)
	var after counts
	require.Eventually(t, func() bool {
		after = l.counts(t)
		return after.within(idle)
	}, settleTime, 100*time.Millisecond, "before %+v, after %+v", idle, &after)
	t.Logf("afterwards: %+v", after)
	goroutinesAtEnd(t, in, server, l.row)
}

// load is an environment and the ways to it.
type load struct {
	session *Session
	id      string
	machine *supervisor.Client
	row     listed
	server  int // its process id
}

// execs runs n execs, so many at once. Each has its own output and exit code.
func (l *load) execs(t *testing.T, name string, n, atOnce int, run func(t *testing.T, i int)) {
	t.Helper()
	atOnce = min(n, atOnce)
	began := time.Now()
	together(t, n, atOnce, func(i int) { run(t, i) })
	took := time.Since(began)
	t.Logf("%d execs by %s, %d at once: %s, %s each", n, name, atOnce,
		took.Round(time.Millisecond), (took / time.Duration(n)).Round(100*time.Microsecond))
}

// runs makes the ids of execs distinct.
var runs atomic.Int64

// direct runs an exec through guestd's API.
func (l *load) direct(t *testing.T, i int) {
	t.Helper()
	code, stdout, stderr, exit := numbered(i)
	var out, errOut strings.Builder
	exited, err := l.machine.Guest().Run(t.Context(), guest.Exec{
		Start: &guestv1.Start{
			ExecId:  fmt.Sprintf("numbered-%d", runs.Add(1)),
			Command: &guestv1.Start_Shell{Shell: code},
		},
		Stdout: &out, Stderr: &errOut,
	})
	require.NoError(t, err, i)
	require.Equal(t, []any{stdout, stderr, int32(exit)}, []any{out.String(), errOut.String(), exited.GetExitCode()})
	require.IsType(t, &guestv1.Exited_ExitCode{}, exited.GetOutcome(), i)
}

// byTool runs an exec as an agent does.
func (l *load) byTool(t *testing.T, i int) {
	t.Helper()
	code, stdout, stderr, exit := numbered(i)
	var ran executed
	l.session.fork().Call(t, "execute", map[string]any{
		"environment_id": l.id, "language": "shell", "code": code, "timeout_seconds": 300,
	}, &ran)
	require.Equal(t, executed{ExitCode: exit, Stdout: stdout, Stderr: stderr}, ran)
}

// counts is what a load could leave behind.
type counts struct {
	// Of guestd and its machine.
	goroutines, descriptors, cgroups, execs, tasks int
	// Descriptors of the processes of the host.
	server, supervisor int
}

func (l *load) counts(t *testing.T) counts {
	t.Helper()
	info, err := l.machine.Guest().Info(t.Context())
	require.NoError(t, err)
	require.Positive(t, info.GetAgentGoroutines())
	require.Positive(t, info.GetAgentDescriptors())
	return counts{
		goroutines: int(info.GetAgentGoroutines()), descriptors: int(info.GetAgentDescriptors()),
		cgroups: int(info.GetExecCgroups()), execs: int(info.GetRunningExecs()), tasks: int(info.GetTasks()),
		server: descriptors(t, l.server), supervisor: descriptors(t, l.row.Pid),
	}
}

// within says whether nothing is left but connections and threads, which are
// kept for the next calls.
func (c counts) within(before counts) bool {
	return c.cgroups <= before.cgroups && c.execs <= before.execs && c.tasks <= before.tasks+kept &&
		c.goroutines <= before.goroutines+kept && c.descriptors <= before.descriptors+kept &&
		c.server <= before.server+kept && c.supervisor <= before.supervisor+kept
}

// goroutinesAtEnd ends server and supervisor by SIGQUIT, on which Go prints all
// goroutines, and counts those.
func goroutinesAtEnd(t *testing.T, in *Installation, server *Server, row listed) {
	t.Helper()
	server.Signal(syscall.SIGQUIT)
	<-server.done
	log, ok := server.cmd.Stderr.(*bytes.Buffer)
	require.True(t, ok)
	atRest(t, "serve", log.Bytes())

	p := watch(t, row.Pid)
	require.NoError(t, syscall.Kill(row.Pid, syscall.SIGQUIT))
	require.True(t, p.endsWithin(t, serverLimit))
	text, err := os.ReadFile(supervisor.LogPath(filepath.Join(in.Run, row.ID)))
	require.NoError(t, err)
	atRest(t, "supervise", text)
}

func atRest(t *testing.T, name string, dump []byte) {
	t.Helper()
	n := bytes.Count(dump, []byte("\ngoroutine "))
	t.Logf("goroutines of %s: %d", name, n)
	require.Positive(t, n, "no dump of %s", name)
	require.LessOrEqual(t, n, maxGoroutines, "goroutines of %s: %s", name, dump)
}
