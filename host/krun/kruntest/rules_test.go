// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kruntest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// rule is one call and what it returns: 0 or more, or an errno. Their order is part
// of what they say.
type rule struct {
	call   string
	result string
}

const (
	good = "0"
	mac  = "m:020000000001"
)

func errno(e unix.Errno) string { return strconv.Itoa(-int(e)) }

var (
	exist   = errno(unix.EEXIST)
	invalid = errno(unix.EINVAL)
	noDev   = errno(unix.ENODEV)
	noEnt   = errno(unix.ENOENT)
)

// rules go through one process. DIR is its directory; context 9 does not exist.
var rules = []rule{
	{"krun_init_log 0 3 2 1", invalid},
	{"krun_init_log -2 3 2 1", invalid},
	{"krun_init_log 2 3 9 1", invalid},
	{"krun_init_log 2 3 2 2", invalid},
	{"krun_init_log 2 1 2 1", good},
	{"krun_has_feature 0", "1"},
	{"krun_has_feature 1", "1"},
	{"krun_has_feature 5", "0"},
	{"krun_has_feature 6", "0"},
	{"krun_has_feature 10", "0"},
	{"krun_has_feature 11", invalid},
	{"krun_check_nested_virt", errno(unix.EOPNOTSUPP)},
	{"krun_create_ctx", "0"},
	{"krun_create_ctx", "1"},
	{"krun_free_ctx 1", good},
	{"krun_free_ctx 1", noEnt},
	{"krun_create_ctx", "2"},

	{"krun_set_vm_config 9 1 1", noEnt},
	{"krun_set_vm_config 0 0 1", invalid},
	{"krun_set_vm_config 0 1 0", invalid},
	{"krun_set_vm_config 0 255 2147483648", good},

	{"krun_add_vsock 0 0", exist}, // an implicit one is there
	{"krun_add_vsock_port2 0 1 s:DIR/nope 1", good},
	{"krun_disable_implicit_vsock 9", noEnt},
	{"krun_disable_implicit_vsock 0", good},
	{"krun_add_vsock_port2 0 1024 s:DIR/nope 1", noDev},
	{"krun_add_vsock_port2 0 1024 s:DIR/there 1", exist},
	{"krun_add_vsock_port2 9 1024 s:DIR/there 1", exist},
	{"krun_add_vsock_port2 9 1024 s:DIR/there 0", noEnt},
	{"krun_add_vsock 9 4", invalid},
	{"krun_add_vsock 9 0", noEnt},
	{"krun_add_vsock 0 4", invalid},
	{"krun_add_vsock 0 3", good},
	{"krun_add_vsock 0 0", exist},
	{"krun_disable_implicit_vsock 0", good}, // the explicit one goes
	{"krun_add_vsock 0 0", good},
	{"krun_add_vsock_port2 0 1024 s:DIR/gone/x 1", good},
	{"krun_add_vsock_port2 0 1024 s:DIR/there/x 1", invalid},
	{"krun_add_vsock_port2 0 1024 s:DIR/dangling 1", good},
	{"krun_add_vsock_port2 0 1025 s:DIR/there/x 0", good},
	{"krun_add_vsock_port2 9 1025 s:\xff 0", invalid},
	{"krun_add_vsock_port 0 1025 s:DIR/there", good},

	{"krun_set_root_disk_remount 0 s:/dev/vda s:ext4 s:ro", invalid}, // no disk yet
	{"krun_set_root_disk_remount 9 s:/dev/vda s:ext4 s:ro", noEnt},
	{"krun_add_disk2 9 s:a s:/nope 7 1", invalid},
	{"krun_add_disk2 9 s:a s:/nope 0 1", noEnt},
	{"krun_add_disk2 0 s:a s:/nope 0 1", good},
	{"krun_add_disk2 0 s:a s:/nope 2 0", good},
	{"krun_add_disk3 0 s:a s:/nope 0 1 0 3", invalid},
	{"krun_add_disk3 0 s:a s:/nope 0 1 0 0", good},
	{"krun_set_root_disk_remount 0 s:/dev/vda null null", good},
	{"krun_set_root_disk_remount 0 s:/dev/vda s:ext4 s:ro", invalid},

	{"krun_add_net_unixstream 0 null -1 " + mac + " 0 0", invalid},
	{"krun_add_net_unixstream 0 s:/x 3 " + mac + " 0 0", invalid},
	{"krun_add_net_unixstream 0 s:/x -1 " + mac + " 0 1", invalid},
	{"krun_add_net_unixstream 0 s:/x -1 " + mac + " 32 0", invalid},
	{"krun_add_net_unixstream 9 s:/x -1 " + mac + " 0 0", noEnt},
	{"krun_add_net_unixstream 0 s:/x -1 " + mac + " 23939 0", good},
	{"krun_add_net_unixgram 0 s:/x -1 " + mac + " 0 1", good},
	{"krun_add_net_unixgram 0 s:/x -1 " + mac + " 0 2", invalid},
	{"krun_add_net_tap 0 s:tap0 " + mac + " 0 0", good},
	{"krun_add_net_tap 0 s:tap0 " + mac + " 32 0", invalid},

	{"krun_set_exec 9 s:/x w: w:A=b", noEnt},
	{"krun_set_exec 0 s:\xff w: w:A=b", invalid},
	{"krun_set_exec 0 s:/x w:a,b w:A=b", good},
	{"krun_set_env 0 w:A=b", good},
	{"krun_set_workdir 0 s:/", good},
	{"krun_set_rlimits 0 null", invalid},
	{"krun_set_console_output 9 s:DIR/console", noEnt},
	{"krun_set_console_output 0 s:DIR/console", good},
	{"krun_set_console_output 0 s:DIR/console", invalid},
	{"krun_get_shutdown_eventfd 9", noEnt},
	{"krun_get_shutdown_eventfd 0", invalid},
	{"krun_setuid 0 0", good},
	{"krun_setgid 0 0", good},

	{"krun_set_port_map 2 w:a", invalid},
	{"krun_set_port_map 2 w:1:2", good},
	{"krun_set_root 2 s:/nonexistent", good},
	{"krun_add_disk2 2 s:a s:/nope 0 1", good},
	{"krun_set_root_disk_remount 2 s:/dev/vda s:ext4 s:ro", invalid}, // a root is there
	{"krun_add_virtiofs 2 s:t s:/", good},
	{"krun_add_virtiofs2 2 s:t s:/ 0", good},
	{"krun_set_mapped_volumes 2 w:a", invalid},

	{"krun_start_enter 9", noEnt},
	{"krun_start_enter 0", invalid}, // its disks are not there
	{"krun_start_enter 0", noEnt},   // and it is used up
	{"krun_set_vm_config 0 1 1", noEnt},
}

// TestRules holds the double to what libkrun returns. WAGGLE_TEST_LIBKRUN names a
// real libkrun.so.1 of 1.17.3 with libkrunfw beside it, and the same is asked of
// that.
func TestRules(t *testing.T) {
	t.Parallel()
	double := newPlayer(t, Options{})
	checkRules(t, double)
	var asked []string
	for _, r := range rules {
		name, _, _ := strings.Cut(r.call, " ")
		asked = append(asked, name)
	}
	record := double.record(t)
	require.Equal(t, asked, Calls(record), "every call is recorded, in order")
	for i, e := range record[:4] {
		require.Equal(t, -22, *e.Result, "%d: %v", i, e)
	}
}

func TestRulesOfRealLibrary(t *testing.T) {
	t.Parallel()
	library := os.Getenv("WAGGLE_TEST_LIBKRUN")
	if library == "" {
		t.Skip("WAGGLE_TEST_LIBKRUN names no libkrun.so.1 to compare the double with")
	}
	checkRules(t, &player{library: library, firmware: filepath.Dir(library), dir: shortDir(t)})
}

func checkRules(t *testing.T, p *player) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "there"), nil, 0o600))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(p.dir, "dangling")))
	var calls []string
	for _, r := range rules {
		calls = append(calls, strings.ReplaceAll(r.call, "DIR", p.dir))
	}
	results, run := p.play(t, calls...)
	require.Len(t, results, len(rules), "%s", &run.stderr)
	for i, r := range rules {
		require.Equal(t, r.result, results[i], "%d: %s", i, calls[i])
	}
	require.True(t, run.cmd.ProcessState.Success(), "%v", run.cmd.ProcessState)
}

// TestEnds are calls after which there is no process.
func TestEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options Options
		calls   []string
		signal  unix.Signal
		words   string
	}{
		"two loggers":  {calls: []string{"krun_set_log_level 1", "krun_init_log 2 1 2 1"}, signal: unix.SIGABRT, words: "second logger"},
		"no path":      {calls: []string{"krun_create_ctx", "krun_set_console_output 0 null"}, signal: unix.SIGSEGV, words: "path is NULL"},
		"no mac":       {calls: []string{"krun_create_ctx", "krun_add_net_unixstream 0 s:/x -1 null 0 0"}, signal: unix.SIGSEGV, words: "mac is NULL"},
		"told so":      {options: Options{Orders: []string{"abort=krun_create_ctx"}}, calls: []string{"krun_create_ctx"}, signal: unix.SIGABRT, words: "told to abort"},
		"told at last": {options: Options{Orders: []string{"abort=krun_start_enter"}}, calls: []string{"krun_create_ctx", "krun_start_enter 0"}, signal: unix.SIGABRT, words: "told to abort"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			_, run := newPlayer(t, c.options).play(t, c.calls...)
			require.Equal(t, c.signal, run.signal(), "%s", &run.stderr)
			require.Contains(t, run.stderr.String(), c.words)
		})
	}
}

// TestOrders fails each call that Waggle makes, and only that one.
func TestOrders(t *testing.T) {
	t.Parallel()
	for at, line := range configuration("DIR") {
		name, _, _ := strings.Cut(line, " ")
		t.Run(name+"_"+strconv.Itoa(at), func(t *testing.T) {
			t.Parallel()
			p := newPlayer(t, Options{Orders: []string{"# a comment", "fail=" + name + ":1"}})
			results, _ := p.play(t, configuration(p.dir)[:at+1]...)
			for i, result := range results {
				call, _, _ := strings.Cut(configuration(p.dir)[i], " ")
				if call == name {
					require.Equal(t, errno(unix.EPERM), result)
				} else {
					require.Equal(t, good, result, "%d: %s", i, call)
				}
			}
			require.NotEmpty(t, results)
		})
	}
}

// TestOrdersInFile reads them beside the sockets, for a test that knows where these
// will be.
func TestOrdersInFile(t *testing.T) {
	t.Parallel()
	p := newPlayer(t, Options{})
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "double.conf"), []byte("feature=6:1\nfail=krun_create_ctx:12\n"), 0o600))
	results, _ := p.play(t, "krun_has_feature 6", "krun_has_feature 5", "krun_create_ctx")
	require.Equal(t, []string{"1", "0", errno(unix.ENOMEM)}, results)
}

// TestVariants lack symbols, as such builds of libkrun do.
func TestVariants(t *testing.T) {
	t.Parallel()
	const missing = "missing"
	calls := []string{
		"krun_has_feature 0", "krun_has_feature 1", "krun_create_ctx", "krun_add_disk2 0 s:a s:/nope 0 1",
		"krun_set_root_disk_remount 0 s:/dev/vda s:ext4 s:ro", "krun_add_net_unixstream 0 s:/x -1 " + mac + " 0 0",
	}
	for name, c := range map[string]struct {
		options Options
		results []string
	}{
		"complete":    {Options{}, []string{"1", "1", good, good, good, good}},
		"older":       {Options{Older: true}, []string{missing, missing, good, good, good, good}},
		"without NET": {Options{WithoutNet: true}, []string{"0", "1", good, good, good, missing}},
		"without BLK": {Options{WithoutBlk: true}, []string{"1", "0", good, missing, missing, good}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			results, _ := newPlayer(t, c.options).play(t, calls...)
			require.Equal(t, c.results, results)
		})
	}
}

// TestEmptyRoot is made below TMPDIR by the remount, which fails when it cannot be.
func TestEmptyRoot(t *testing.T) {
	t.Parallel()
	calls := []string{"krun_create_ctx", "krun_add_disk2 0 s:a s:/nope 0 1", "krun_set_root_disk_remount 0 s:/dev/vda s:ext4 s:ro"}
	p := newPlayer(t, Options{})
	results, _ := p.play(t, calls...)
	require.Equal(t, []string{good, good, good}, results)
	made, err := filepath.Glob(filepath.Join(p.dir, "krun-empty-root-*"))
	require.NoError(t, err)
	require.Len(t, made, 1)

	q := newPlayer(t, Options{})
	q.dir = filepath.Join(q.dir, "gone")
	results, _ = q.play(t, calls...)
	require.Equal(t, []string{good, good, invalid}, results)
}
