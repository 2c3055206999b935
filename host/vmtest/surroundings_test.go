// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSurroundings breaks what the server stands on, one thing at a time. Each
// time create_environment says what is wrong and what to do, `waggle run` says the
// same, and neither leaves anything.
func TestSurroundings(t *testing.T) {
	base := Install(t)
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, in *Installation)
		want   []string // what is wrong, and the remedy
	}{
		{"image for another architecture", otherArchitecture, []string{"another architecture", "choose an image for linux/" + runtime.GOARCH}},
		{"truncated layer", truncatedLayer, []string{"image is damaged", "`waggle image rm`"}},
		{"no image", func(t *testing.T, _ *Installation) { t.Setenv("WAGGLE_IMAGE_PYTHON", "waggle/nothing:1") },
			[]string{"waggle/nothing:1", "`go tool -modfile=tools/go.mod task images`"}},
		{"no kernel where the setting says", func(t *testing.T, _ *Installation) { t.Setenv("WAGGLE_KERNEL", "/nonexistent/kernel") },
			[]string{"/nonexistent/kernel", "`go tool -modfile=tools/go.mod task kernel`", "WAGGLE_KERNEL"}},
		{"no kernel", func(t *testing.T, in *Installation) { require.NoError(t, os.Remove(filepath.Join(in.Data, "kernel"))) },
			[]string{"no guest kernel", "`go tool -modfile=tools/go.mod task kernel`"}},
		{"no QEMU", func(t *testing.T, in *Installation) { t.Setenv("PATH", in.Data) },
			[]string{"qemu is not installed", "apt-get install -y qemu-system"}},
		{"full disk", fullDisk, []string{"no space left on the host's disk", "WAGGLE_DATA_DIR"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := *base
			in.Run = filepath.Join(base.Run, "..", "r")
			in.Data = dataOf(t, base)
			tt.damage(t, &in)
			_, errOut, code := in.cli(t, "", "run", "-q", "python", "true")
			require.Equal(t, 125, code, errOut)
			refusal := in.Serve(t).Connect(t).Refused(t, "create_environment", map[string]any{"runtime": "python"})
			for _, want := range tt.want {
				require.Contains(t, errOut, want)
				require.Contains(t, refusal, want)
			}
			require.Subset(t, []string{"waggle.lock", "waggle.sock"}, entries(t, in.Run))
			require.Subset(t, []string{".locks"}, entries(t, filepath.Join(in.Data, "scratch")))
			for _, d := range entries(t, filepath.Join(in.Data, "disks")) {
				// The disk of an image is kept for the next one.
				require.Regexp(t, `^(\.locks|sha256-[0-9a-f]{64}.*)$`, d)
			}
		})
	}
}

// TestSettings gives the server what it cannot start with. It says which setting,
// its value and what is allowed, and is gone with nothing made.
func TestSettings(t *testing.T) {
	t.Parallel()
	base := Install(t)
	for setting, tt := range map[string]struct{ value, want string }{
		"WAGGLE_MAX_ENVIRONMENTS":     {"-1", "is -1: give 1 to "},
		"WAGGLE_DEFAULT_CPUS":         {"1000000", "is 1000000: give 1 to "},
		"WAGGLE_DEFAULT_MEMORY_MB":    {"3", "is 3: give 128 to "},
		"WAGGLE_DEFAULT_DISK_MB":      {"nonsense", "nonsense"},
		"WAGGLE_DEFAULT_TIMEOUT_MIN":  {"0", "is 0: give 1 to "},
		"WAGGLE_DEFAULT_EXEC_TIMEOUT": {"30 parsecs", "30 parsecs"},
		"WAGGLE_MAX_EXEC_TIMEOUT":     {"1s", "less than WAGGLE_DEFAULT_EXEC_TIMEOUT"},
		"WAGGLE_ORPHAN_TIMEOUT":       {"-5m", "is -5m0s: give 1s to "},
		"WAGGLE_LISTEN_ADDR":          {"0.0.0.0:0", "is not loopback"},
		"WAGGLE_IMAGE_PYTHON":         {"UPPER CASE", "UPPER CASE"},
		"WAGGLE_GUESTD_DIR":           {"/nonexistent", "`go tool -modfile=tools/go.mod task build`"},
		"WAGGLE_RUN_DIR":              {"/tmp/" + strings.Repeat("long", 30), "bytes shorter"},
		"WAGGLE_DATA_DIR":             {"/proc/waggle", "set WAGGLE_DATA_DIR to a directory of yours"},
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			in := *base
			in.Run = filepath.Join(filepath.Dir(base.Run), strings.ToLower(setting))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // one that starts would run for ever
			defer cancel()
			cmd := exec.CommandContext(ctx, in.Waggle, "serve")
			in.prepare(cmd)
			cmd.Env = append(cmd.Env, "WAGGLE_LISTEN_ADDR=127.0.0.1:0", setting+"="+tt.value)
			out, err := cmd.CombinedOutput()
			require.Error(t, err, "%s", out)
			require.NoError(t, ctx.Err(), "%s", out)
			require.Contains(t, string(out), setting)
			require.Contains(t, string(out), tt.want)
			require.NotContains(t, string(out), "goroutine")
			require.NoDirExists(t, tt.value)
			require.Subset(t, []string{"waggle.lock"}, entries(t, in.Run))
		})
	}
}

// entries are the names in dir, which need not be there.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	names := make([]string, 0, len(list))
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// dataOf makes a data directory of its own with the kernel and the images of in.
func dataOf(t *testing.T, in *Installation) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"kernel", "images"} {
		require.NoError(t, os.Symlink(filepath.Join(in.Data, name), filepath.Join(dir, name)))
	}
	return dir
}

// otherImage puts a small image for arch in the place of waggle/python.
func otherImage(t *testing.T, in *Installation, arch string) {
	t.Helper()
	require.NoError(t, os.Remove(filepath.Join(in.Data, "images")))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := strings.Repeat("text", 10000)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "etc/file", Mode: 0o644, Size: int64(len(text))}))
	_, err := w.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	_, errOut, code := in.cli(t, b.String(), "image", "import", "--arch", arch, "-", "waggle/python:latest")
	require.Zero(t, code, errOut)
}

func otherArchitecture(t *testing.T, in *Installation) {
	arch := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	otherImage(t, in, arch)
}

func truncatedLayer(t *testing.T, in *Installation) {
	otherImage(t, in, runtime.GOARCH)
	var images []struct {
		Layers []struct{ Digest string }
	}
	out, _, _ := in.cli(t, "", "image", "ls", "--json")
	require.NoError(t, json.Unmarshal([]byte(out), &images))
	layer := strings.Replace(images[0].Layers[0].Digest, ":", "/", 1)
	require.NoError(t, os.Truncate(filepath.Join(in.Data, "images", "blobs", layer), 100))
}
