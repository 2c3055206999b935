// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"path"
	"strings"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// sweepCode removes the code that an earlier server left in an environment: that of
// executions which no longer run. It is called before the first execution of this
// server, so that nothing is handed in meanwhile.
func (m *Manager) sweepCode(ctx context.Context, env string, g *guest.Client) {
	list, err := g.List(ctx, &guestv1.FilesystemListRequest{Path: codeDir}, MaxEntries)
	if err != nil {
		return // there is none, most likely
	}
	execs, err := g.Execs(ctx)
	if err != nil {
		m.log.Debug("code of an earlier server was not looked for", "env", env, "error", err)
		return
	}
	running := make(map[string]bool)
	for _, x := range execs {
		if _, id, ok := strings.Cut(x.GetExecId(), "-"); ok && x.GetExited() == nil {
			running[id] = true
		}
	}
	for _, e := range list.Entries {
		file := path.Clean(e.GetPath())
		if path.Dir(file) != codeDir || running[executionOf(path.Base(file))] {
			continue
		}
		_, err := g.Filesystem().Remove(ctx, connect.NewRequest(&guestv1.FilesystemRemoveRequest{Path: file, MissingOk: true, Recursive: true}))
		if err != nil {
			m.log.Debug("code of an earlier server was not removed", "env", env, "error", err)
			return
		}
	}
}

// executionOf is whose code a file is, which is called ID.HASH.EXTENSION.
func executionOf(name string) string {
	name = strings.TrimSuffix(name, path.Ext(name))
	return strings.TrimSuffix(name, path.Ext(name))
}
