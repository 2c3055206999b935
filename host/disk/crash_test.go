// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// builderEnv makes the test binary a process that builds a disk: "MODE DIR", where MODE
// is stall, to stand still in the middle of writing, or run.
const builderEnv = "WAGGLE_TEST_DISK_BUILDER"

// crowdLayer is large enough for a build to take its time.
func crowdLayer(t testing.TB) []byte {
	var files []file
	for i := range 300 {
		files = append(files, reg("d"+itoa(int64(i%7))+"/"+itoa(int64(i)), strings.Repeat("body", 5000)))
	}
	return makeTar(t, append(files, hard("link", "d0/0"), sym("s", "d1"))...)
}

// TestBuilderProcess is no test of its own: it is what the others start.
func TestBuilderProcess(t *testing.T) {
	mode, dir, ok := strings.Cut(os.Getenv(builderEnv), " ")
	if !ok {
		t.Skip("started by other tests")
	}
	c, err := Open(dir, Limits{})
	require.NoError(t, err)
	raw := crowdLayer(t)
	layers := []Layer{{Open: func(context.Context) (io.ReadCloser, error) {
		fmt.Println("BUILDS")
		return io.NopCloser(bytes.NewReader(raw)), nil
	}}}
	fmt.Println("READY")
	if mode == "run" { // all at once, when all are there
		_, err := os.Stdin.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			path, err := c.Root(t.Context(), keyOf("crowd"), layers, func(p Progress) {
				if mode == "stall" && p.Phase == PhaseWrite && p.Done > p.Total/2 {
					fmt.Println("HALF")
					_, _ = os.Stdin.Read(make([]byte, 1)) // until it is killed
				}
			})
			if err != nil {
				t.Error(err)
			}
			fmt.Println("DISK " + path)
		})
	}
	wg.Wait()
}

// builder is a started process of TestBuilderProcess.
type builder struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

func startBuilder(t *testing.T, mode, dir string) *builder {
	t.Helper()
	b := &builder{cmd: exec.Command(os.Args[0], "-test.run=^TestBuilderProcess$")}
	b.cmd.Env = append(os.Environ(), builderEnv+"="+mode+" "+dir)
	b.cmd.Stderr = os.Stderr
	var err error
	b.stdin, err = b.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := b.cmd.StdoutPipe()
	require.NoError(t, err)
	b.lines = bufio.NewScanner(out)
	require.NoError(t, b.cmd.Start())
	t.Cleanup(func() {
		if b.cmd.ProcessState == nil { // the test has failed before it waited
			_ = b.cmd.Process.Kill()
			_ = b.cmd.Wait()
		}
	})
	return b
}

// until reads lines to the one that is wanted.
func (b *builder) until(t *testing.T, line string) {
	t.Helper()
	for b.lines.Scan() {
		if b.lines.Text() == line {
			return
		}
	}
	require.FailNow(t, "the builder has ended", "before %q", line)
}

// rest reads the lines to the end and waits for the process.
func (b *builder) rest(t *testing.T) (lines []string) {
	t.Helper()
	for b.lines.Scan() {
		lines = append(lines, b.lines.Text())
	}
	require.NoError(t, b.cmd.Wait())
	return lines
}

// TestBuiltOnceByProcesses: ten ask at once, in two processes.
func TestBuiltOnceByProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pair := []*builder{startBuilder(t, "run", dir), startBuilder(t, "run", dir)}
	for _, b := range pair {
		b.until(t, "READY")
	}
	for _, b := range pair {
		require.NoError(t, b.stdin.Close())
	}
	count := map[string]int{}
	for _, b := range pair {
		for _, line := range b.rest(t) {
			count[line]++
		}
	}
	c, err := Open(dir, Limits{})
	require.NoError(t, err)
	path, err := c.rootPath(keyOf("crowd"))
	require.NoError(t, err)
	require.Equal(t, 1, count["BUILDS"], "%v", count)
	require.Equal(t, 10, count["DISK "+path], "%v", count)
	ext4{t, path}.check()
}

// TestKilledBuilder: a process that is killed in the middle of a disk leaves nothing that
// is taken for whole, and what it leaves is removed by a sweep, or by the next build,
// which is not kept waiting.
func TestKilledBuilder(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(t *testing.T, c *Cache){
		"sweep": func(t *testing.T, c *Cache) {
			removed, freed, err := c.Sweep()
			require.NoError(t, err)
			require.Len(t, removed, 1)
			require.Greater(t, freed, int64(1<<20), "half of a disk")
			requireNothingLeft(t, c)
		},
		"build": func(t *testing.T, c *Cache) {
			path, err := c.Root(t.Context(), keyOf("crowd"), layersOf(crowdLayer(t)), func(p Progress) {
				require.NotEqual(t, PhaseWait, p.Phase)
			})
			require.NoError(t, err)
			ext4{t, path}.check()
			fresh, err := openCache(t, Limits{}).Root(t.Context(), keyOf("crowd"), layersOf(crowdLayer(t)), nil)
			require.NoError(t, err)
			require.Equal(t, sumOf(t, fresh), sumOf(t, path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b := startBuilder(t, "stall", dir)
			b.until(t, "HALF")
			require.NoError(t, b.cmd.Process.Kill())
			var exit *exec.ExitError
			require.True(t, errors.As(b.cmd.Wait(), &exit))
			left, err := filepath.Glob(filepath.Join(dir, buildPrefix+"*"))
			require.NoError(t, err)
			require.Len(t, left, 1, "the layers were nameless")
			c, err := Open(dir, Limits{})
			require.NoError(t, err)
			infos, err := c.List()
			require.NoError(t, err)
			require.Empty(t, infos)
			next(t, c)
			left, err = filepath.Glob(filepath.Join(dir, buildPrefix+"*"))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}
