// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"path"
	"strings"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// codeDir is where code is handed in: out of the working directory, where version
// control would see it, and in memory, so that on a full disk code can run that makes
// room again. Only its owner can enter.
const codeDir = "/tmp/.waggle"

// codeDirs are where the code of a runtime may go, the best place first.
func codeDirs(k *kit, rt runtime, cwd string) []string {
	if rt.beside {
		return []string{cwd, k.home, codeDir}
	}
	return []string{codeDir, path.Join(k.home, ".cache/waggle")}
}

// codeName names the file of an execution's code. It has the code's hash: so another
// code is another command for the guest, and never changes the file of one that runs.
func codeName(id string, rt runtime, code string) string {
	sum := sha256.Sum256([]byte(code))
	name := id + "." + hex.EncodeToString(sum[:6]) + rt.extension
	if rt.beside {
		return "." + name
	}
	return name
}

// writeCode writes code to a file in the first of dirs that takes it.
func writeCode(ctx context.Context, client *guest.Client, dirs []string, name, code string) (file string, err error) {
	for _, dir := range dirs {
		file = path.Join(dir, name)
		err = writeCodeFile(ctx, client, file, code)
		if errors.Is(err, ErrFileNotFound) {
			_, err = client.Filesystem().MakeDir(ctx, connect.NewRequest(&guestv1.FilesystemMakeDirRequest{
				Path: dir, Mode: new(uint32(0o700)), Parents: true,
			}))
			if err != nil {
				err = guestError(ctx, "hand in the code", err)
			} else {
				err = writeCodeFile(ctx, client, file, code)
			}
		}
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, ErrFilePermission) && !errors.Is(err, ErrFileNotFound) && !errors.Is(err, ErrNoSpace) && !errors.Is(err, ErrFileKind) {
			break
		}
	}
	return "", err
}

func writeCodeFile(ctx context.Context, client *guest.Client, file, code string) error {
	open := &guestv1.WriteOpen{Path: file, Mode: new(uint32(0o600)), Size: new(uint64(len(code)))}
	if _, err := client.WriteFile(ctx, open, strings.NewReader(code)); err != nil {
		return guestError(ctx, "hand in the code", err)
	}
	return nil
}

// remove takes a file of code away without making the caller wait.
func (m *Manager) remove(id string, client *guest.Client, file string) {
	m.behind(func() {
		ctx, cancel := context.WithTimeout(m.ctx, execSlack)
		defer cancel()
		_, err := client.Filesystem().Remove(ctx, connect.NewRequest(&guestv1.FilesystemRemoveRequest{Path: file, MissingOk: true}))
		if err != nil && m.ctx.Err() == nil {
			m.log.Debug("file of an execution was not removed", "env", id, "error", err)
		}
	})
}

// behind runs f on a goroutine that Close waits for. It reports false when Close has
// begun to wait.
func (m *Manager) behind(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return false
	}
	m.wg.Go(f)
	return true
}
