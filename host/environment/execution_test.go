// SPDX-License-Identifier: Apache-2.0

package environment_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/environment/envtest"
)

// TestExecRequest: where and how a command runs.
func TestExecRequest(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 1)
	id := create(t, m, "shell")
	_, err := m.WriteFile(t.Context(), id, environment.Home+"/d/a", nil, environment.WriteOptions{})
	require.NoError(t, err)
	r, err := m.Exec(t.Context(), id, environment.ExecRequest{
		Command: []string{"sh", "-c", `ls; echo "$A"; cat`}, Cwd: environment.Home + "/d",
		Env: map[string]string{"A": "b"}, Stdin: strings.Repeat("in", 500_000),
	})
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(r.Stdout.Text, "a\nb\nin"))
	require.EqualValues(t, 1_000_004, r.Stdout.Bytes, "all of stdin")
	require.Empty(t, r.Language)

	for name, tc := range map[string]struct {
		req  environment.ExecRequest
		text string
	}{
		"both":         {environment.ExecRequest{Code: "1", Command: []string{"ls"}}, "code and command are both given"},
		"language":     {environment.ExecRequest{Command: []string{"ls"}, Language: "shell"}, "language is of code"},
		"no program":   {environment.ExecRequest{Command: []string{""}}, "command must begin with a program"},
		"many":         {environment.ExecRequest{Command: make([]string, 1025)}, "command must begin"},
		"many more":    {environment.ExecRequest{Command: append([]string{"ls"}, make([]string, 1024)...)}, "1025 elements, the most is 1024"},
		"long":         {environment.ExecRequest{Command: []string{"ls", strings.Repeat("a", 128<<10)}}, "element 1 is 131072 bytes long"},
		"all long":     {environment.ExecRequest{Command: []string{"a", strings.Repeat("a", 128<<10-1), strings.Repeat("a", 128<<10-1), strings.Repeat("a", 128<<10-1), strings.Repeat("a", 128<<10-1), "abcd"}}, "the most is 524288"},
		"nul":          {environment.ExecRequest{Command: []string{"ls", "\x00"}}, "element 1 holds a NUL"},
		"cwd":          {environment.ExecRequest{Code: "1", Cwd: "d"}, environment.Home + "/d"},
		"cwd nul":      {environment.ExecRequest{Code: "1", Cwd: "/\x00"}, "cwd holds a NUL"},
		"long cwd":     {environment.ExecRequest{Code: "1", Cwd: "/" + strings.Repeat("d", 4096)}, "cwd is 4097 bytes"},
		"env":          {environment.ExecRequest{Code: "1", Env: map[string]string{"": "a"}}, "no name of a variable"},
		"env nul":      {environment.ExecRequest{Code: "1", Env: map[string]string{"a": "\x00"}}, `value of "a"`},
		"long env":     {environment.ExecRequest{Code: "1", Env: map[string]string{"a": strings.Repeat("a", 100<<10), "b": strings.Repeat("b", 100<<10)}}, "the most is 131072"},
		"stdin":        {environment.ExecRequest{Code: "1", Stdin: strings.Repeat("a", 1<<20+1)}, "stdin is 1048577 bytes long, the most is 1048576"},
		"execution_id": {environment.ExecRequest{Code: "1", ExecutionID: "ä"}, "execution_id must be"},
	} {
		_, err := m.Exec(t.Context(), id, tc.req)
		require.ErrorIs(t, err, environment.ErrInvalidArgument, name)
		require.ErrorContains(t, err, tc.text, name)
	}
	many := map[string]string{}
	for i := range environment.MaxEnv + 1 {
		many[fmt.Sprint("V", i)] = ""
	}
	_, err = m.Exec(t.Context(), id, environment.ExecRequest{Code: "1", Env: many})
	require.ErrorContains(t, err, "env has 129 variables, the most is 128")
}

// TestReissue: what is called again with its id runs once, whoever calls.
func TestReissue(t *testing.T) {
	t.Parallel()
	f := envtest.NewFleet(t)
	m := newManager(t, f, 1)
	id := create(t, m, "python")
	ctx := t.Context()
	req := environment.ExecRequest{
		ExecutionID: "job", Stdin: "two\n",
		Code: "import time, sys, os\nprint('one', sys.stdin.read(), flush=True)\nwhile not os.path.exists('go'): time.sleep(.01)\nprint('three')",
	}
	// follow runs it, and returns when the first output has come.
	follow := func(ctx context.Context) (result chan environment.ExecResult, failure chan error) {
		result, failure = make(chan environment.ExecResult, 1), make(chan error, 1)
		seen := make(chan struct{})
		see := sync.OnceFunc(func() { close(seen) })
		one := req
		one.Output = func(bool, []byte) { see() }
		go func() {
			r, err := m.Exec(ctx, id, one)
			result <- r
			failure <- err
		}()
		<-seen
		return result, failure
	}
	cut, cancel := context.WithCancel(ctx)
	_, first := follow(cut)
	second, failure := follow(ctx)
	cancel() // it is followed still, so it goes on
	require.ErrorIs(t, <-first, context.Canceled)
	_, err := m.WriteFile(ctx, id, environment.Home+"/go", nil, environment.WriteOptions{})
	require.NoError(t, err)
	r := <-second
	require.NoError(t, <-failure)
	require.Equal(t, "one two\n\nthree\n", r.Stdout.Text)
	require.True(t, r.Continued)
	require.Equal(t, 1, f.Machine(id).Starts())

	for name, change := range map[string]func(*environment.ExecRequest){
		"code":    func(r *environment.ExecRequest) { r.Code += "#" },
		"stdin":   func(r *environment.ExecRequest) { r.Stdin = "other" },
		"env":     func(r *environment.ExecRequest) { r.Env = map[string]string{"A": ""} },
		"timeout": func(r *environment.ExecRequest) { r.Timeout = time.Second },
		"command": func(r *environment.ExecRequest) { r.Code, r.Command = "", []string{"true"} },
	} {
		other := req
		change(&other)
		_, err := m.Exec(ctx, id, other)
		require.ErrorIs(t, err, environment.ErrInvalidArgument, name)
		require.ErrorContains(t, err, "execution_id was used for another input", name)
	}
	require.Equal(t, 1, f.Machine(id).Starts())
}

// TestNextServer: an execution with a name, and one in the background, outlive the
// server that started them; the next one finds them, and removes code that is of none.
func TestNextServer(t *testing.T) {
	t.Parallel()
	f := envtest.NewFleet(t)
	first := newManager(t, f, 1)
	id := create(t, first, "python")
	ctx := t.Context()
	bg, err := first.Exec(ctx, id, environment.ExecRequest{Background: true, Code: "import os, time\nos.write(1, b'bg\\n')\ntime.sleep(60)"})
	require.NoError(t, err)
	require.True(t, bg.Running)
	named := environment.ExecRequest{ExecutionID: "a.b", Code: "import time, os\nprint('on', flush=True)\nwhile not os.path.exists('go'): time.sleep(.01)\nprint(open(__file__).read()[:6])"}
	started := named
	started.Background = true
	_, err = first.Exec(ctx, id, started)
	require.NoError(t, err)
	_, err = first.WriteFile(ctx, id, "/tmp/.waggle/gone.0123456789ab.py", []byte("x"), environment.WriteOptions{})
	require.NoError(t, err)
	first.Close()

	m := newManager(t, f, 1)
	require.Equal(t, 1, m.Adopt(ctx, f.Attach()))
	s, err := m.GetExecution(ctx, id, bg.ExecutionID, environment.ExecutionQuery{Wait: time.Minute})
	require.NoError(t, err)
	require.True(t, s.Running)
	require.Equal(t, "bg\n", string(s.Stdout.Data))
	_, err = m.WriteFile(ctx, id, environment.Home+"/go", nil, environment.WriteOptions{})
	require.NoError(t, err)
	named.Timeout = 5 * time.Minute // as long as in the background
	r, err := m.Exec(ctx, id, named)
	require.NoError(t, err)
	require.Equal(t, "on\nimport\n", r.Stdout.Text, "its file was left alone")
	require.True(t, r.Continued)
	require.Equal(t, 2, f.Machine(id).Starts())

	x, err := m.CancelExecution(ctx, id, bg.ExecutionID)
	require.NoError(t, err)
	require.Equal(t, "SIGKILL", x.Signal)
	require.True(t, x.Cancelled)
	again, err := m.CancelExecution(ctx, id, bg.ExecutionID)
	require.NoError(t, err)
	require.Equal(t, x, again)
	require.Eventually(t, func() bool {
		l, err := m.ListFiles(ctx, id, "/tmp/.waggle", environment.ListOptions{})
		return err == nil && len(l.Files) == 1 // of the one that was cancelled: no server followed it
	}, patience, time.Millisecond)
}

// TestBackgroundOutlivesItsCaller, and its code is removed at its end.
func TestBackgroundOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 1)
	id := create(t, m, "shell")
	ctx, cancel := context.WithCancel(t.Context())
	r, err := m.Exec(ctx, id, environment.ExecRequest{Background: true, Code: "while ! [ -e go ]; do sleep .01; done; echo went; exit 3"})
	require.NoError(t, err)
	cancel()
	l, err := m.ListFiles(t.Context(), id, "/tmp/.waggle", environment.ListOptions{})
	require.NoError(t, err)
	require.Len(t, l.Files, 1)
	_, err = m.WriteFile(t.Context(), id, environment.Home+"/go", nil, environment.WriteOptions{})
	require.NoError(t, err)
	s, err := m.GetExecution(t.Context(), id, r.ExecutionID, environment.ExecutionQuery{Wait: time.Minute})
	require.NoError(t, err)
	for s.Running {
		s, err = m.GetExecution(t.Context(), id, r.ExecutionID, environment.ExecutionQuery{Wait: time.Minute, StdoutOffset: s.Stdout.Next})
		require.NoError(t, err)
	}
	require.Equal(t, 3, s.ExitCode)
	require.EqualValues(t, 5, s.Stdout.Bytes)
	require.Eventually(t, func() bool {
		l, err := m.ListFiles(t.Context(), id, "/tmp/.waggle", environment.ListOptions{})
		return err == nil && len(l.Files) == 0
	}, patience, time.Millisecond)
	_, err = m.Exec(t.Context(), id, environment.ExecRequest{Background: true, Command: []string{"no-such-program"}})
	require.ErrorContains(t, err, "command names a program that is not there")
}

// TestReadOutput reads pieces of what is kept.
func TestReadOutput(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 1)
	id := create(t, m, "shell")
	ctx := t.Context()
	r, err := m.Exec(ctx, id, environment.ExecRequest{Code: "yes é | head -c 1200000; echo err >&2"})
	require.NoError(t, err)
	require.Positive(t, r.Stdout.CutBytes)
	_, err = m.ReadOutput(ctx, id, r.ExecutionID, false, 0, 0)
	require.ErrorIs(t, err, environment.ErrInvalidArgument)
	require.ErrorContains(t, err, "1200000 bytes are more than one read returns, which is 1048576")
	p, err := m.ReadOutput(ctx, id, r.ExecutionID, false, 3, 4)
	require.NoError(t, err)
	require.Equal(t, "é\n", string(p.Data), "the next piece begins with the whole character")
	require.EqualValues(t, 6, p.Next)
	p, err = m.ReadOutput(ctx, id, r.ExecutionID, false, 1_199_997, 0)
	require.NoError(t, err)
	require.Equal(t, "é\n", string(p.Data))
	p, err = m.ReadOutput(ctx, id, r.ExecutionID, true, 0, 0)
	require.NoError(t, err)
	require.Equal(t, "err\n", string(p.Data))
	for offset, limit := range map[int64]int64{1_200_001: 0, -1: 0, 0: -1, 1: 1<<20 + 1} {
		_, err = m.ReadOutput(ctx, id, r.ExecutionID, false, offset, limit)
		require.ErrorIs(t, err, environment.ErrInvalidArgument)
	}
	_, err = m.ReadOutput(ctx, id, "other", false, 0, 0)
	require.ErrorIs(t, err, environment.ErrNoExecution)
}

// TestCodeDoesNotNotice: code finds what it would find if its file lay in the working
// directory, and nothing lies there.
func TestCodeDoesNotNotice(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 1)
	id := create(t, m, "python")
	write := func(name, text string) {
		_, err := m.WriteFile(t.Context(), id, environment.Home+"/"+name, []byte(text), environment.WriteOptions{})
		require.NoError(t, err)
	}
	run := func(language, code string) environment.ExecResult {
		r, err := m.Exec(t.Context(), id, environment.ExecRequest{Language: language, Code: code})
		require.NoError(t, err)
		return r
	}
	write("mine.py", "answer = 42")
	r := run("python", `import mine, os, sys, multiprocessing
def double(n): return 2 * n
if __name__ == "__main__":
    print(mine.answer, sys.path[0] == os.getcwd(), os.path.exists(__file__), sys.argv == [__file__], os.listdir())
    print([n for n in globals() if not n.startswith("__")], [n for n in os.environ if n.startswith("WAGGLE") and not n.startswith("WAGGLE_TEST")])
    with multiprocessing.get_context("spawn").Pool(1) as p:
        print(p.map(double, [21]))
`)
	require.Empty(t, r.Stderr.Text)
	require.Regexp(t, `^42 True True True \['mine.py'(, '__pycache__')?\]|^42 True True True \['__pycache__', 'mine.py'\]`, r.Stdout.Text)
	require.Contains(t, r.Stdout.Text, "['mine', 'os', 'sys', 'multiprocessing', 'double'] []\n[42]\n")
	r = run("python", "def f():\n    1/0\nf()\n")
	require.Regexp(t, `^Traceback \(most recent call last\):\n  File "[^"]*\.py", line 3, in <module>\n    f\(\)\n`, r.Stderr.Text, "no frame is a stranger's")
	require.Contains(t, r.Stderr.Text, "line 2, in f\n    1/0")
	r = run("python", "x = 1\nif x\n")
	require.Equal(t, 1, r.ExitCode)
	require.Regexp(t, `^  File "[^"]*\.py", line 2\n    if x\n`, r.Stderr.Text)
	r = run("python", "raise SystemExit(7)")
	require.Equal(t, 7, r.ExitCode)

	if _, err := exec.LookPath("node"); err != nil && os.Getenv("WAGGLE_TEST_REQUIRE") == "" {
		return
	}
	write("x.js", "exports.answer = 42")
	write("y.mjs", "export const answer = 43")
	r = run("node", `"use strict";
console.log(require("./x").answer, __dirname === process.cwd(), require.main === module, process.argv.length, process.execArgv.length);
console.log(Object.keys(process.env).filter(n => n.startsWith("WAGGLE") && !n.startsWith("WAGGLE_TEST")), this === module.exports, typeof globalThis.require);
import("./y.mjs").then(m => { console.log(m.answer); null.x; });
`)
	require.Equal(t, "42 true true 2 0\n[] true undefined\n43\n", r.Stdout.Text, r.Stderr.Text)
	require.Regexp(t, `\.js:4\nimport\("./y.mjs"\).*\n.*\n\nTypeError`, r.Stderr.Text)
	require.Equal(t, 1, r.ExitCode)
	r = run("node", "let x = ;")
	require.Contains(t, r.Stderr.Text, "SyntaxError")
	require.Contains(t, r.Stderr.Text, "let x = ;")
}
