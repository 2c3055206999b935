// SPDX-License-Identifier: Apache-2.0

package tools_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/remedy"
)

const (
	patience = 10 * time.Second
	pause    = 10 * time.Millisecond
)

type args = map[string]any

// TestTranscript is what an agent does, in both eras of the protocol.
func TestTranscript(t *testing.T) {
	t.Parallel()
	for _, era := range []string{legacy, modern} {
		t.Run(era, func(t *testing.T) {
			t.Parallel()
			_, url := newServer(t, 1)
			c := connect(t, url, era)
			r := c.tool("create_environment", args{"runtime": "python", "name": "demo", "timeout_minutes": 5})
			id := r.out()["environment_id"].(string)
			require.Equal(t, []string{"starting", "booting"}, r.progress)
			require.Equal(t, 5.0, r.out()["timeout_minutes"])
			require.Contains(t, r.text(), id)

			r = c.tool("write_file", args{"environment_id": id, "path": "/home/sandbox/d/in.txt", "content": "héllo\n"})
			require.Equal(t, 7.0, r.out()["size"])

			r = c.tool("execute", args{"environment_id": id, "code": "import sys\nprint(open('d/in.txt').read().upper(), end='')\nprint('warn', file=sys.stderr)\nsys.exit(3)\n"})
			require.Equal(t, 3.0, r.out()["exit_code"])
			require.Equal(t, "HÉLLO\n", r.out()["stdout"])
			require.Equal(t, "warn\n", r.out()["stderr"])
			require.Equal(t, false, r.out()["timed_out"])
			require.Contains(t, r.text(), "exit code 3")
			require.Contains(t, strings.Join(r.progress, ""), "HÉLLO\n")

			r = c.tool("execute", args{"environment_id": id, "language": "shell", "timeout_seconds": 1, "code": "echo on; sleep 60"})
			require.Equal(t, true, r.out()["timed_out"])
			require.Equal(t, "on\n", r.out()["stdout"])

			r = c.tool("install_packages", args{"environment_id": id, "packages": " six  left-pad "})
			require.Equal(t, []any{"six 1.0.0", "left-pad 1.0.0"}, r.out()["installed"])
			require.Equal(t, []string{"Collecting six", "Collecting left-pad"}, r.progress)

			r = c.tool("read_file", args{"environment_id": id, "path": "/home/sandbox/d/in.txt"})
			require.Equal(t, "héllo\n", r.out()["content"])
			require.Equal(t, "utf-8", r.out()["encoding"])
			require.Equal(t, "héllo\n", r.text())

			c.tool("write_file", args{"environment_id": id, "path": "/home/sandbox/b", "content": "/wA=", "encoding": "base64"})
			r = c.tool("read_file", args{"environment_id": id, "path": "/home/sandbox/b"})
			require.Equal(t, "/wA=", r.out()["content"])
			require.Equal(t, "base64", r.out()["encoding"])

			r = c.tool("read_file", args{"environment_id": id, "path": "/proc/filesystems", "limit": 60})
			require.Equal(t, 0.0, r.out()["size"])
			require.Equal(t, true, r.out()["truncated"])
			require.Equal(t, 60.0, r.out()["next_offset"])
			require.Contains(t, r.text(), "60 bytes, of a number that is not known, so far, read again with offset 60")

			r = c.tool("list_files", args{"environment_id": id})
			require.Equal(t, "/home/sandbox", r.out()["path"])
			require.Contains(t, r.text(), "/home/sandbox/d")

			r = c.tool("list_environments", args{})
			require.Len(t, r.out()["environments"], 1)
			require.Equal(t, id+" python running demo", r.text())

			r = c.tool("destroy_environment", args{"environment_id": id})
			require.Equal(t, true, r.out()["destroyed"])
			require.Empty(t, c.tool("list_environments", nil).out()["environments"])
		})
	}
}

// TestBadInput: each mistake gets its cause and the next step in words, as a
// result that a model sees.
func TestBadInput(t *testing.T) {
	t.Parallel()
	_, url := newServer(t, 1)
	c := connect(t, url, legacy)
	id := c.tool("create_environment", args{"runtime": "shell"}).out()["environment_id"]
	require.Equal(t, fmt.Sprint(id, " shell running"), c.tool("list_environments", nil).text(), "it has no name")
	for _, tc := range []struct {
		name, tool string
		args       args
		want       []string
	}{
		{"unknown runtime", "create_environment", args{"runtime": "ruby"}, []string{"ruby", "python, node, shell"}},
		{"runtime and image", "create_environment", args{"runtime": "shell", "image": "alpine"}, []string{"image and runtime are both given"}},
		{"no image's name", "create_environment", args{"image": "Up per"}, []string{"image", "Up per", "NAME[:TAG]"}},
		{"endless image", "create_environment", args{"image": strings.Repeat("a", 513)}, []string{"image is 513 bytes long"}},
		{"negative idle timeout", "create_environment", args{"runtime": "python", "timeout_minutes": -1}, []string{"timeout_minutes must be 1 to 1440"}},
		{"no idle timeout at all", "create_environment", args{"runtime": "python", "timeout_minutes": 0}, []string{"timeout_minutes must be 1 to 1440"}},
		{"endless idle timeout", "create_environment", args{"runtime": "python", "timeout_minutes": int64(1) << 60}, []string{"timeout_minutes must be 1 to 1440"}},
		{"too many", "create_environment", args{"runtime": "python"}, []string{"1 of 1", "destroy_environment"}},
		{"malformed id", "destroy_environment", args{"environment_id": "../x"}, []string{"malformed", "create_environment"}},
		{"unknown id", "destroy_environment", args{"environment_id": "env-aaaaaaaa"}, []string{"env-aaaaaaaa", "list_environments"}},
		{"empty code", "execute", args{"environment_id": id, "code": "\n"}, []string{"code is empty"}},
		{"no code", "execute", args{"environment_id": id}, []string{"code is missing"}},
		{"nothing at all", "execute", nil, []string{"environment_id is missing"}},
		{"code and command", "execute", args{"environment_id": id, "code": "1", "command": []string{"ls"}}, []string{"code and command are both given"}},
		{"language of a command", "execute", args{"environment_id": id, "command": []string{"ls"}, "language": "shell"}, []string{"language is of code"}},
		{"no command", "execute", args{"environment_id": id, "command": []string{}}, []string{"command must begin with a program"}},
		{"command of another type", "execute", args{"environment_id": id, "command": "ls"}, []string{"command must be a list of strings, not a string"}},
		{"argument of another type", "execute", args{"environment_id": id, "command": []any{"ls", 1}}, []string{"command must be a list of strings, not with a number in it"}},
		{"unknown program", "execute", args{"environment_id": id, "command": []string{"no-such-program"}}, []string{"command names a program that is not there", "no-such-program"}},
		{"relative cwd", "execute", args{"environment_id": id, "code": "1", "cwd": "data"}, []string{"cwd", "relative", "/home/sandbox/data"}},
		{"variable of another type", "execute", args{"environment_id": id, "code": "1", "env": args{"A": 1}}, []string{"env must be an object of strings, not with a number in it"}},
		{"name of no variable", "execute", args{"environment_id": id, "code": "1", "env": args{"A=B": ""}}, []string{`env "A=B" is no name`}},
		{"bad execution_id", "execute", args{"environment_id": id, "code": "1", "execution_id": "a/b"}, []string{"execution_id must be 1 to 64 characters"}},
		{"endless execution_id", "get_execution", args{"environment_id": id, "execution_id": strings.Repeat("a", 65)}, []string{"execution_id must be 1 to 64"}},
		{"unknown execution", "get_execution", args{"environment_id": id, "execution_id": "none"}, []string{"no such execution: none", "kept for a while"}},
		{"unknown execution to cancel", "cancel_execution", args{"environment_id": id, "execution_id": "none"}, []string{"no such execution: none"}},
		{"endless wait", "get_execution", args{"environment_id": id, "execution_id": "none", "wait_seconds": 301}, []string{"wait_seconds must be 0 to 300"}},
		{"negative offsets", "get_execution", args{"environment_id": id, "execution_id": "none", "stdout_offset": -1, "stderr_offset": -1, "limit": 0},
			[]string{"stdout_offset is negative", "stderr_offset is negative", "limit must be 1 to 262144"}},
		{"empty code, unknown id", "execute", args{"environment_id": "env-aaaaaaaa", "code": ""}, []string{"code is empty"}},
		{"all wrong at once", "execute", args{"environment_id": "x", "code": "", "language": "c", "timeout_seconds": -1},
			[]string{"environment_id", "malformed", "code is empty", "language", "timeout_seconds must be"}},
		{"relative path, unknown id", "read_file", args{"environment_id": "env-aaaaaaaa", "path": "a"}, []string{"relative"}},
		{"relative directory, unknown id", "list_files", args{"environment_id": "env-aaaaaaaa", "path": "a"}, []string{"relative"}},
		{"no packages, unknown id", "install_packages", args{"environment_id": "env-aaaaaaaa", "packages": "", "manager": "brew"},
			[]string{"packages is empty", "brew"}},
		{"bad runtime and name", "create_environment", args{"runtime": "c", "name": "\n"}, []string{"python, node, shell", "name must"}},
		{"code of another type", "execute", args{"environment_id": id, "code": 1}, []string{"code must be a string, not a number"}},
		{"negative timeout", "execute", args{"environment_id": id, "code": "true", "timeout_seconds": -5}, []string{"timeout_seconds must be 1 to 300"}},
		{"no timeout at all", "execute", args{"environment_id": id, "code": "true", "timeout_seconds": 0}, []string{"timeout_seconds must be 1 to 300"}},
		{"no bytes at all", "read_file", args{"environment_id": id, "path": "/nope", "limit": 0}, []string{"limit must be 1 to 1048576"}},
		{"huge timeout", "execute", args{"environment_id": id, "code": "true", "timeout_seconds": 9e18}, []string{"timeout_seconds"}},
		{"fraction", "execute", args{"environment_id": id, "code": "true", "timeout_seconds": 1.5}, []string{"timeout_seconds must be a whole number"}},
		{"unknown language", "execute", args{"environment_id": id, "code": "1", "language": "perl"}, []string{"perl", "python, node, shell"}},
		{"misspelt parameter", "execute", args{"environment_id": id, "code": "true", "timeout": 5}, []string{"timeout", "timeout_seconds"}},
		{"relative path", "write_file", args{"environment_id": id, "path": "a.txt", "content": ""}, []string{"relative", "/home/sandbox/a.txt"}},
		{"not base64", "write_file", args{"environment_id": id, "path": "/a", "content": "*", "encoding": "base64"}, []string{"not base64"}},
		{"unknown encoding", "write_file", args{"environment_id": id, "path": "/a", "content": "*", "encoding": "latin1"}, []string{"latin1", "utf-8"}},
		{"missing file", "read_file", args{"environment_id": id, "path": "/nope"}, []string{"no such file", "list_files"}},
		{"negative offset", "read_file", args{"environment_id": id, "path": "/nope", "offset": -1}, []string{"offset is negative"}},
		{"missing directory", "list_files", args{"environment_id": id, "path": "/nope"}, []string{"no such file"}},
		{"option as package", "install_packages", args{"environment_id": id, "packages": "-r x"}, []string{"options"}},
		{"no packages", "install_packages", args{"environment_id": id, "packages": " "}, []string{"packages is empty"}},
		{"unknown package", "install_packages", args{"environment_id": id, "packages": "nope"}, []string{"No matching distribution", "check the names"}},
		{"manager that is not there", "install_packages", args{"environment_id": id, "packages": "six", "manager": "dnf"},
			[]string{"dnf is not in the image, which has pip", "Name one that the image has"}},
		{"parameter of none", "list_environments", args{"x": 1}, []string{"takes no parameters"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := c.try(tc.tool, tc.args)
			require.Nil(t, r.err)
			require.True(t, r.isError(), r.text())
			for _, w := range tc.want {
				require.Contains(t, r.text(), w)
			}
		})
	}
	require.Len(t, c.tool("list_environments", nil).out()["environments"], 1)
}

// TestFailures: infrastructure that fails is told in words, and a missing
// interpreter with its remedy.
func TestFailures(t *testing.T) {
	t.Parallel()
	fleet, url := newServer(t, 2)
	c := connect(t, url, legacy)
	id := c.tool("create_environment", args{"runtime": "python"}).out()["environment_id"].(string)

	fleet.Fail(errors.New("no guest kernel: " + remedy.Kernel()))
	r := c.try("create_environment", args{"runtime": "python"})
	require.True(t, r.isError())
	require.Contains(t, r.text(), remedy.Task("kernel"))
	require.Contains(t, r.text(), "Nothing was left behind")

	fleet.Machine(id).Crash()
	require.Eventually(t, func() bool {
		list := c.tool("list_environments", nil).out()["environments"].([]any)
		return list[0].(map[string]any)["state"] == "failed"
	}, patience, pause)
	r = c.try("execute", args{"environment_id": id, "code": "1"})
	require.True(t, r.isError())
	require.Contains(t, r.text(), "supervisor was killed")
	c.tool("destroy_environment", args{"environment_id": id})
}
