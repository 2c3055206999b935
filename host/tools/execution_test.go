// SPDX-License-Identifier: Apache-2.0

package tools_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// links are the addresses of the resources that a result points at.
func (r reply) links() (uris []string) {
	content, _ := r.result["content"].([]any)
	for _, c := range content {
		if m := c.(map[string]any); m["type"] == "resource_link" {
			uris = append(uris, m["uri"].(string))
		}
	}
	return uris
}

// read reads a resource that has one content.
func (c *client) read(uri string) map[string]any {
	c.t.Helper()
	r := c.tryRead(uri)
	require.Nil(c.t, r.err)
	contents := r.result["contents"].([]any)
	require.Len(c.t, contents, 1)
	return contents[0].(map[string]any)
}

func (c *client) tryRead(uri string) reply {
	c.t.Helper()
	params, err := json.Marshal(map[string]any{"uri": uri})
	require.NoError(c.t, err)
	return c.call("resources/read", string(params))
}

// TestExecuteParameters: what execute takes beside code, in both eras.
func TestExecuteParameters(t *testing.T) {
	t.Parallel()
	for _, era := range []string{legacy, modern} {
		t.Run(era, func(t *testing.T) {
			t.Parallel()
			_, url := newServer(t, 1)
			c := connect(t, url, era)
			id := c.tool("create_environment", args{"runtime": "shell"}).out()["environment_id"].(string)
			c.tool("write_file", args{"environment_id": id, "path": "/home/sandbox/d/a", "content": ""})

			r := c.tool("execute", args{"environment_id": id, "command": []string{"sh", "-c", `pwd; echo "$A" "$1"; cat`, "sh", "a b"},
				"cwd": "/home/sandbox/d", "env": args{"A": "ä"}, "stdin": "in\n"})
			require.True(t, strings.HasSuffix(r.out()["stdout"].(string), "/home/sandbox/d\nä a b\nin\n"), r.out()["stdout"])
			require.Equal(t, "exited", r.out()["state"])
			require.Equal(t, 0.0, r.out()["exit_code"])
			require.NotContains(t, r.out(), "language")
			require.NotEmpty(t, r.out()["execution_id"])

			again := args{"environment_id": id, "code": "echo ran >>ran; cat ran", "execution_id": "job.1"}
			r = c.tool("execute", again)
			require.Equal(t, "ran\n", r.out()["stdout"])
			require.NotContains(t, r.out(), "continued")
			r = c.tool("execute", again)
			require.Equal(t, "ran\n", r.out()["stdout"], "it ran once")
			require.Equal(t, true, r.out()["continued"])
			again["code"] = "echo other"
			r = c.try("execute", again)
			require.True(t, r.isError())
			require.Contains(t, r.text(), "execution_id was used for another input")
			require.Contains(t, r.text(), "choose a new one")
		})
	}
}

// TestBackground follows an execution in the background and ends it.
func TestBackground(t *testing.T) {
	t.Parallel()
	for _, era := range []string{legacy, modern} {
		t.Run(era, func(t *testing.T) {
			t.Parallel()
			_, url := newServer(t, 1)
			c := connect(t, url, era)
			id := c.tool("create_environment", args{"runtime": "shell"}).out()["environment_id"].(string)
			r := c.tool("execute", args{"environment_id": id, "background": true, "code": "mkfifo go; echo é1; read x <go; echo 2; echo e >&2; sleep 60",
				"execution_id": "bg"})
			require.Equal(t, "running", r.out()["state"])
			require.NotContains(t, r.out(), "exit_code")
			require.Contains(t, r.text(), "execution bg is running, get_execution follows it")
			get := func(out, errOut, wait int) reply {
				return c.tool("get_execution", args{"environment_id": id, "execution_id": "bg", "wait_seconds": wait, "stdout_offset": out, "stderr_offset": errOut})
			}
			r = get(0, 0, 60)
			require.Equal(t, "é1\n", r.out()["stdout"])
			require.Equal(t, 4.0, r.out()["stdout_next_offset"])
			require.Equal(t, "running", r.out()["state"])
			r = get(1, 0, 0) // in the middle of a character
			require.Equal(t, "\uFFFD1\n", r.out()["stdout"])
			began := time.Now()
			r = get(4, 0, 1)
			require.Empty(t, r.out()["stdout"])
			require.GreaterOrEqual(t, time.Since(began), time.Second, "it waited for what is new")
			c.tool("execute", args{"environment_id": id, "code": "echo >go"})
			var out, errOut string
			for nextOut, nextErr := 4, 0; out != "2\n" || errOut != "e\n"; {
				r = get(nextOut, nextErr, 60)
				out, errOut = out+r.out()["stdout"].(string), errOut+r.out()["stderr"].(string)
				nextOut, nextErr = int(r.out()["stdout_next_offset"].(float64)), int(r.out()["stderr_next_offset"].(float64))
				require.LessOrEqual(t, nextOut+nextErr, 8)
			}

			r = c.try("get_execution", args{"environment_id": id, "execution_id": "bg", "stdout_offset": 1000})
			require.True(t, r.isError())
			require.Contains(t, r.text(), "stdout_offset is 1000, and only")

			r = c.tool("cancel_execution", args{"environment_id": id, "execution_id": "bg"})
			require.Equal(t, "exited", r.out()["state"])
			first := r.out()
			require.Equal(t, first, c.tool("cancel_execution", args{"environment_id": id, "execution_id": "bg"}).out(), "again is no error")
			require.Equal(t, "exited", get(0, 0, 0).out()["state"])
		})
	}
}

// TestLongOutput: what the result cuts is a resource, whole and in pieces.
func TestLongOutput(t *testing.T) {
	t.Parallel()
	for _, era := range []string{legacy, modern} {
		t.Run(era, func(t *testing.T) {
			t.Parallel()
			_, url := newServer(t, 1)
			c := connect(t, url, era)
			id := c.tool("create_environment", args{"runtime": "python"}).out()["environment_id"].(string)
			r := c.tool("execute", args{"environment_id": id, "execution_id": "long", "code": "for i in range(100000): print('line %5d' % i)"})
			const size = 100000 * 11
			require.Equal(t, true, r.out()["truncated"])
			uri := "waggle://env/" + id + "/exec/long/stdout"
			require.Equal(t, []string{uri}, r.links())
			require.Equal(t, uri, r.out()["stdout_uri"])
			require.Contains(t, r.text(), fmt.Sprintf("of %d bytes of stdout were cut", size))

			e := c.tryRead(uri).err
			require.NotNil(t, e, "it is more than one read returns")
			require.Contains(t, e["message"], "1048576")
			require.Contains(t, e["message"], "offset and limit")
			got := c.read(uri + "?offset=0&limit=1048576")["text"].(string) + c.read(uri + "?offset=1048576")["text"].(string)
			require.Len(t, got, size)
			require.True(t, strings.HasSuffix(got, "line 99999\n"))
			piece := c.read(uri + "?offset=11&limit=11")
			require.Equal(t, "line     1\n", piece["text"])
			require.Equal(t, "text/plain", piece["mimeType"])
			require.Empty(t, c.read("waggle://env/" + id + "/exec/long/stderr")["text"])
			r = c.tool("get_execution", args{"environment_id": id, "execution_id": "long", "stdout_offset": 22, "limit": 11})
			require.Equal(t, "line     2\n", r.out()["stdout"])
			require.Equal(t, true, r.out()["truncated"])
			require.Equal(t, 33.0, r.out()["stdout_next_offset"])
		})
	}
}

// TestResources: files and directories, what is no text, and what is not there.
func TestResources(t *testing.T) {
	t.Parallel()
	missing := map[string]float64{legacy: -32002, modern: -32602}
	for _, era := range []string{legacy, modern} {
		t.Run(era, func(t *testing.T) {
			t.Parallel()
			fleet, url := newServer(t, 2)
			fleet.Has(map[string]string{"sh": "/bin/sh"})
			c := connect(t, url, era)
			require.Empty(t, c.call("resources/list", `{}`).result["resources"])
			id := c.tool("create_environment", args{"runtime": "shell", "name": "mine"}).out()["environment_id"].(string)
			files := "waggle://env/" + id + "/files/home/sandbox"
			list := c.call("resources/list", `{}`).result["resources"].([]any)
			require.Len(t, list, 1)
			require.Equal(t, files, list[0].(map[string]any)["uri"])
			require.Contains(t, list[0].(map[string]any)["description"], "mine")
			templates := c.call("resources/templates/list", `{}`).result["resourceTemplates"].([]any)
			require.Len(t, templates, 2)

			c.tool("write_file", args{"environment_id": id, "path": "/home/sandbox/a b/ü.csv", "content": "x,y\n"})
			c.tool("write_file", args{"environment_id": id, "path": "/home/sandbox/p", "content": base64.StdEncoding.EncodeToString([]byte("\x89PNG\r\n\x1a\n")), "encoding": "base64"})
			require.Contains(t, c.read(files)["text"], "/home/sandbox/a b\n")
			csv := c.read(files + "/a%20b/%C3%BC.csv")
			require.Equal(t, "x,y\n", csv["text"])
			require.Contains(t, csv["mimeType"], "text/csv")
			require.Equal(t, "y", c.read(files + "/a%20b/%C3%BC.csv?offset=2&limit=1")["text"])
			png := c.read(files + "/p")
			require.Equal(t, "image/png", png["mimeType"])
			require.Equal(t, "iVBORw0KGgo=", png["blob"])

			for uri, want := range map[string]string{
				files + "/none":                              "no such file",
				"waggle://env/env-aaaaaaaa/files/etc":        "no such environment",
				"waggle://env/" + id + "/exec/none/stdout":   "no such execution",
				"waggle://env/" + id + "/exec/none/x/stdout": "",
			} {
				e := c.tryRead(uri).err
				require.NotNil(t, e, uri)
				require.Equal(t, missing[era], e["code"], uri)
				require.Contains(t, e["message"], want, uri)
			}
			e := c.tryRead(files + "/p?offset=x").err
			require.Contains(t, e["message"], "offset of uri must be a whole number")
		})
	}
}
