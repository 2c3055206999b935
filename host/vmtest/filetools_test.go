// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// fileList is the answer of list_files.
type fileList struct {
	Files []struct {
		Path string `json:"path"`
		Mode string `json:"mode"`
		Size int    `json:"size"`
	} `json:"files"`
	Truncated  bool     `json:"truncated"`
	Next       string   `json:"next_cursor"`
	Unreadable []string `json:"unreadable"`
}

func (l fileList) paths() []string {
	out := make([]string, 0, len(l.Files))
	for _, f := range l.Files {
		out = append(out, f.Path)
	}
	return out
}

// TestFileTools writes, adds to, edits and lists files of a machine.
func TestFileTools(t *testing.T) {
	in := Install(t)
	c := in.Serve(t).Connect(t)
	var env environment
	c.Call(t, "create_environment", map[string]any{"runtime": "shell"}, &env)
	defer in.Command(t, "rm", env.ID)
	with := func(args map[string]any) map[string]any {
		args["environment_id"] = env.ID
		return args
	}
	const dir = "/home/sandbox/tree"
	var discard map[string]any
	write := func(name, content string, more map[string]any) {
		t.Helper()
		args := with(map[string]any{"path": dir + "/" + name, "content": content})
		for k, v := range more {
			args[k] = v
		}
		c.Call(t, "write_file", args, &discard)
	}
	list := func(more map[string]any) (l fileList) {
		t.Helper()
		more["path"] = dir
		c.Call(t, "list_files", with(more), &l)
		return l
	}

	t.Run("write", func(t *testing.T) {
		write("run.sh", "#!/bin/sh\n", map[string]any{"mode": "0755"})
		write("run.sh", "echo one\necho one\n", map[string]any{"append": true})
		require.Equal(t, "one\none\n", in.Command(t, "exec", env.ID, dir+"/run.sh"))
		require.Contains(t, c.Refused(t, "write_file", with(map[string]any{"path": dir + "/x", "content": "", "mode": "4755"})), "mode")
	})
	t.Run("read", func(t *testing.T) {
		const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
		write("dot.png", png, map[string]any{"encoding": "base64"})
		type answer struct {
			Content  string `json:"content"`
			Encoding string `json:"encoding"`
			MIME     string `json:"mime_type"`
		}
		var read answer
		c.Call(t, "read_file", with(map[string]any{"path": dir + "/dot.png"}), &read)
		require.Equal(t, answer{"", "image", "image/png"}, read)
		read = answer{}
		c.Call(t, "read_file", with(map[string]any{"path": dir + "/dot.png", "encoding": "base64"}), &read)
		require.Equal(t, answer{png, "base64", "image/png"}, read)
		require.Contains(t, c.Refused(t, "read_file", with(map[string]any{"path": dir + "/dot.png", "encoding": "utf-8"})), "not UTF-8")
		in.Command(t, "exec", env.ID, "--", "rm", dir+"/dot.png")
	})
	t.Run("edit", func(t *testing.T) {
		edit := func(old, text string) map[string]any {
			return with(map[string]any{"path": dir + "/run.sh", "old_text": old, "new_text": text})
		}
		require.Contains(t, c.Refused(t, "edit_file", edit("echo one", "echo two")), "2 times, expected once")
		require.Contains(t, c.Refused(t, "edit_file", edit("echo  one\n", "x")), "nowhere")
		require.Contains(t, c.Refused(t, "edit_file", edit("  echo one\n  exit", "x")), `line 2 has its first line: "echo one"`)
		var edited struct {
			Replacements int `json:"replacements"`
			Line         int `json:"first_line"`
		}
		both := edit("echo one", "echo two")
		both["expected_count"] = 2
		c.Call(t, "edit_file", both, &edited)
		require.Equal(t, 2, edited.Replacements)
		require.Equal(t, 2, edited.Line)
		c.Call(t, "edit_file", edit("two\necho two", "two\nexit 3"), &edited)
		_, _, code := in.cli(t, "", "exec", env.ID, dir+"/run.sh")
		require.Equal(t, 3, code, "it still may be executed")
		in.Command(t, "exec", env.ID, "--", "sh", "-c", `printf 'a\000b' >`+dir+"/binary")
		require.Contains(t, c.Refused(t, "edit_file", with(map[string]any{"path": dir + "/binary", "old_text": "a", "new_text": "b"})), "no text")
	})
	t.Run("list", func(t *testing.T) {
		for _, name := range []string{"src/a.py", "src/deep/b.py", "src/deep/c.txt"} {
			write(name, name, nil)
		}
		require.Equal(t, []string{dir + "/binary", dir + "/run.sh", dir + "/src"}, list(map[string]any{}).paths())
		python := []string{dir + "/src/a.py", dir + "/src/deep/b.py"}
		require.Equal(t, python, list(map[string]any{"glob": "*.py", "recursive": true}).paths())
		require.Equal(t, python, list(map[string]any{"glob": "src/**/*.py"}).paths())
		require.Empty(t, list(map[string]any{"glob": "*.py"}).paths())
		require.Len(t, list(map[string]any{"recursive": true}).paths(), 7)
		require.Contains(t, c.Refused(t, "list_files", with(map[string]any{"glob": "[a"})), "glob")
		require.Contains(t, c.Refused(t, "list_files", with(map[string]any{"cursor": "!"})), "cursor")
		in.Command(t, "exec", "--as-root", env.ID, "--", "sh", "-c", "mkdir -m 700 "+dir+"/locked")
		l := list(map[string]any{"recursive": true})
		require.Equal(t, []string{dir + "/locked: EACCES"}, l.Unreadable)
	})
	t.Run("pages", func(t *testing.T) {
		in.Command(t, "exec", env.ID, "--", "sh", "-c", "mkdir "+dir+"/many && cd "+dir+"/many && seq -f 'f%05g' 2500 | xargs touch")
		seen := make(map[string]bool)
		args := map[string]any{"glob": "many/f*", "limit": 700}
		for range 5 {
			l := list(args)
			for _, p := range l.paths() {
				require.False(t, seen[p], "%s came twice", p)
				seen[p] = true
			}
			if args["cursor"] = l.Next; l.Next == "" {
				require.False(t, l.Truncated)
				break
			}
			require.Len(t, l.Files, 700)
			require.True(t, l.Truncated)
		}
		require.Len(t, seen, 2500)
		for i := 1; i <= 2500; i++ {
			require.True(t, seen[fmt.Sprintf("%s/many/f%05d", dir, i)], i)
		}
	})
	t.Run("describe", func(t *testing.T) {
		var d struct {
			environment

			Usage struct {
				Executions int `json:"executions"`
				MemoryMB   int `json:"memory_total_mb"`
				DiskMB     int `json:"disk_total_mb"`
				UsedMB     int `json:"memory_used_mb"`
			} `json:"usage"`
		}
		in.Command(t, "exec", "-d", env.ID, "sleep", "1000")
		c.Call(t, "get_environment", with(map[string]any{}), &d)
		require.Equal(t, "running", d.State)
		require.Equal(t, env.ID, d.ID)
		require.Equal(t, 1, d.Usage.Executions)
		require.Positive(t, d.Usage.UsedMB)
		require.Greater(t, d.Usage.MemoryMB, d.Usage.UsedMB)
		require.Positive(t, d.Usage.DiskMB)
	})
}
