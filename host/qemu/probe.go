// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// probeTimeout bounds CheckFeatures; it takes a fraction of a second.
const probeTimeout = 20 * time.Second

// neededTypes are what a machine is made of and a build of QEMU can leave out.
var neededTypes = []string{
	"virtio-blk-pci", "virtio-net-pci", "virtio-rng-pci", "vhost-user-vsock-pci", "rng-builtin",
}

// CheckFeatures says what the QEMU at path (see FindBinary) cannot do that a
// machine needs. It makes a machine of this backend's type, with sealed shared
// memory and behind the seccomp filter, and asks it what devices it knows. The
// machine never runs.
func CheckFeatures(ctx context.Context, path string) error {
	a, err := archFor(runtime.GOARCH)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path,
		"-nodefaults", "-no-user-config", "-display", "none", "-S",
		"-sandbox", sandbox, "-accel", "tcg", "-cpu", a.cpuTCG, "-m", "16M",
		"-object", "memory-backend-memfd,id=mem,size=16M,share=on,seal=on",
		"-M", a.machine+",memory-backend=mem", "-qmp", "stdio")
	cmd.Stdin = strings.NewReader(probeQuestions())
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("probe qemu: %w", ctx.Err())
	case errors.As(err, &exit):
		return fmt.Errorf("qemu cannot make a machine: %s (%w)", bytes.TrimSpace(exit.Stderr), err)
	case err != nil:
		return fmt.Errorf("probe qemu: %w", err)
	}
	return readProbe(bytes.NewReader(out))
}

// probeQuestions asks for each type, under its name, and ends QEMU.
func probeQuestions() string {
	var q strings.Builder
	q.WriteString(`{"execute":"qmp_capabilities"}` + "\n")
	for _, name := range neededTypes {
		fmt.Fprintf(&q, `{"execute":"qom-list-types","arguments":{"implements":%q},"id":%[1]q}`+"\n", name)
	}
	q.WriteString(`{"execute":"quit"}` + "\n")
	return q.String()
}

func readProbe(r io.Reader) error {
	known := map[string]bool{}
	for in := json.NewDecoder(r); ; {
		var answer struct {
			ID     string `json:"id"`
			Return []any  `json:"return"`
		}
		err := in.Decode(&answer)
		if errors.Is(err, io.EOF) {
			break
		}
		var other *json.UnmarshalTypeError // the answer to another question
		if err != nil && !errors.As(err, &other) {
			return fmt.Errorf("read qemu's answers: %w", err)
		}
		known[answer.ID] = len(answer.Return) > 0
	}
	var missing []string
	for _, name := range neededTypes {
		if !known[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("this build of qemu has no %s", strings.Join(missing, ", "))
	}
	return nil
}
