// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/stacklok/waggle/proto"
	"github.com/stacklok/waggle/version"
)

// versionCmd prints what a bug report needs first.
type versionCmd struct {
	JSON bool `help:"Print JSON."`
}

// Run writes to standard output.
func (c *versionCmd) Run() error { return c.write(os.Stdout) }

func (c *versionCmd) write(w io.Writer) error {
	if !c.JSON {
		_, err := fmt.Fprintf(w, "waggle %s (%s/%s, guest protocol %d to %d)\n",
			version.String(), runtime.GOOS, runtime.GOARCH, proto.GuestProtocolMin, proto.GuestProtocolMax)
		return err
	}
	return json.NewEncoder(w).Encode(map[string]any{
		"version":      version.String(),
		"os":           runtime.GOOS,
		"arch":         runtime.GOARCH,
		"protocol_min": proto.GuestProtocolMin,
		"protocol_max": proto.GuestProtocolMax,
	})
}
