// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/image"
	"github.com/stacklok/waggle/host/remedy"
	"github.com/stacklok/waggle/host/supervisor"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

const (
	// localImages and referenceImages are where a runtime's image is looked for
	// when no setting names one.
	localImages     = "waggle/"
	referenceImages = "docker://ghcr.io/stacklok/waggle/"
	// discardTimeout bounds the clean-up after a failed launch.
	discardTimeout = 30 * time.Second
	// MinMemoryMiB is what kernel, initial file system and guestd need, in MiB.
	MinMemoryMiB = 128
	// maxImageEnv bounds the variables that are taken over from an image.
	maxImageEnv = 256
)

// Launcher makes machines: it finds the image, makes its disk and starts a
// supervisor. Its methods may be called concurrently.
type Launcher struct {
	Store *image.Store
	Disks *disk.Cache
	// Exe is the waggle binary that supervises.
	Exe string
	// RunDir holds the machines' directories, ScratchDir their disks. RunDir
	// exists and is private.
	RunDir, ScratchDir string
	// Images maps a runtime to the image that a setting names for it.
	Images map[string]string
	// Resolve is how images are fetched. Its Progress is not used.
	Resolve image.ResolveOptions
	// Defaults fill what a request leaves at zero.
	Defaults struct{ CPUs, MemoryMiB, DiskMiB uint32 }
	// Results bounds what a machine keeps of ended execs.
	Results supervisor.ResultLimits
	// NoNetwork machines have no network card.
	NoNetwork bool
	// Backend goes to the supervisor as it is.
	Backend json.RawMessage
	// Holder owns the machine while Launch waits for it.
	Holder string
	// Check says what the host lacks for any machine, before an image is fetched
	// or a machine made. May be nil.
	Check func() error
}

// Launch makes a machine and returns when it takes calls. progress is told each
// step, for people. After an error nothing is left of the machine; what was
// pulled and built of its image stays for the next one.
func (l *Launcher) Launch(
	ctx context.Context, req Request, progress func(phase string),
) (*supervisor.Client, error) {
	if progress == nil {
		progress = func(string) {}
	}
	if m := orDefault(req.MemoryMiB, l.Defaults.MemoryMiB); m < MinMemoryMiB {
		return nil, fmt.Errorf("memory is %d MiB: give at least %d", m, MinMemoryMiB)
	}
	if l.Check != nil {
		if err := l.Check(); err != nil {
			return nil, err
		}
	}
	img, err := l.image(ctx, req, progress)
	if err != nil {
		return nil, err
	}
	root, err := l.rootDisk(ctx, img, progress)
	if err != nil {
		return nil, fmt.Errorf("make disk of image %s: %w", img.Ref, err)
	}
	if err := os.MkdirAll(l.ScratchDir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of scratch disks: %w", err)
	}
	progress("starting the machine")
	machine, err := supervisor.Spawn(ctx, supervisor.SpawnOptions{
		Exe: l.Exe, RunDir: l.RunDir, Spec: l.spec(req, img, root),
	})
	if err != nil {
		return nil, err
	}
	err = machine.WaitRunning(ctx, l.Holder, func(p hostv1.Phase) {
		switch p {
		case hostv1.Phase_PHASE_BOOTING:
			progress("booting")
		case hostv1.Phase_PHASE_CONFIGURING:
			progress("configuring")
		}
	})
	if err == nil {
		return machine, nil
	}
	_ = machine.Close()
	cleanCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	return nil, errors.Join(err, supervisor.Discard(cleanCtx, machine.Dir()))
}

// image finds the image of a request: the one that it names, else the one that a
// setting names for the runtime, else the local one, else the reference image.
func (l *Launcher) image(ctx context.Context, req Request, progress func(string)) (*image.Image, error) {
	opts := l.Resolve
	opts.Progress = pullProgress(progress)
	ref := req.Image
	if req.Stranger && image.IsFile(ref) {
		if _, err := l.Store.Inspect(ref); err != nil {
			return nil, invalid("image", "%s is a file of this host, which the person who runs the server has to let in: `waggle image pull %s`", ref, ref)
		}
	}
	if ref == "" {
		ref = l.Images[req.Runtime]
	}
	if ref != "" {
		img, err := l.Store.Resolve(ctx, ref, opts)
		if err != nil {
			return nil, fmt.Errorf("find image %s: %w", ref, err)
		}
		return img, nil
	}
	if !slices.Contains(Runtimes(), req.Runtime) { // a setting's own would have named an image
		return nil, fmt.Errorf("%w: %q is not one of %s", ErrInvalidRuntime, plain(req.Runtime, 64), strings.Join(Runtimes(), ", "))
	}
	local := opts
	local.LocalOnly = true
	img, err := l.Store.Resolve(ctx, localImages+req.Runtime, local)
	if err == nil || !errors.Is(err, image.ErrNotFound) {
		return img, err
	}
	ref = referenceImages + req.Runtime + ":latest"
	if img, err = l.Store.Resolve(ctx, ref, opts); err != nil {
		return nil, fmt.Errorf("no image for runtime %s: the store has no %s%s (%s, which builds it), and %s: %w",
			req.Runtime, localImages, req.Runtime, remedy.RunTask("images"), strings.TrimPrefix(ref, "docker://"), err)
	}
	return img, nil
}

// rootDisk returns the image's disk, and makes it the first time.
func (l *Launcher) rootDisk(ctx context.Context, img *image.Image, progress func(string)) (string, error) {
	layers := make([]disk.Layer, len(img.Layers))
	for i, layer := range img.Layers {
		layers[i] = disk.Layer{Open: layer.Open, Size: layer.Size}
	}
	var last disk.Phase
	return l.Disks.Root(ctx, img.Digest, layers, func(p disk.Progress) {
		if p.Phase == last {
			return
		}
		last = p.Phase
		switch p.Phase {
		case disk.PhaseWait:
			progress("waiting for its turn to make the image's disk")
		case disk.PhaseRead:
			progress("making the image's disk, once: reading layers")
		case disk.PhaseWrite:
			progress("making the image's disk, once: writing")
		}
	})
}

func (l *Launcher) spec(req Request, img *image.Image, root string) supervisor.Spec {
	s := supervisor.Spec{
		ID: req.ID, Name: req.Name, Owner: req.Owner, Runtime: req.Runtime, Image: img.Ref, ImageDigest: img.Digest.String(),
		RootDisk: root, ScratchPath: filepath.Join(l.ScratchDir, req.ID+".ext4"),
		CPUs:      int(orDefault(req.CPUs, l.Defaults.CPUs)),
		MemoryMiB: int(orDefault(req.MemoryMiB, l.Defaults.MemoryMiB)),
		DiskMiB:   int(orDefault(req.DiskMiB, l.Defaults.DiskMiB)),
		Network:   supervisor.NetworkOpen, Env: imageEnv(img.Config.Env), User: img.Config.User,
		IdleTimeout: req.IdleTimeout, MaxLifetime: req.MaxLifetime, OrphanTimeout: req.OrphanTimeout,
		Results: l.Results, Backend: l.Backend, Key: req.Key, KeySum: req.KeySum,
	}
	maps.Copy(s.Env, req.Env)
	if l.NoNetwork || req.NoNetwork {
		s.Network = supervisor.NetworkNone
	}
	if req.Runtime == "" && filepath.IsAbs(img.Config.WorkingDir) {
		s.Cwd = img.Config.WorkingDir
	}
	return s
}

func orDefault(v, def uint32) uint32 {
	if v == 0 {
		return def
	}
	return v
}

// imageEnv takes over the image's variables, but for those that name its user:
// guestd knows who runs the workload.
func imageEnv(list []string) map[string]string {
	env := map[string]string{}
	for _, kv := range list {
		name, value, ok := strings.Cut(kv, "=")
		switch name {
		case "", "HOME", "USER", "LOGNAME", "HOSTNAME":
			continue
		}
		if ok && len(env) < maxImageEnv {
			env[name] = value
		}
	}
	return env
}

// pullProgress tells of a pull at each tenth of each blob. Blobs come side by
// side, so each has its own last text.
func pullProgress(progress func(string)) func(image.Progress) {
	last := map[string]string{}
	return func(p image.Progress) {
		_, blob, _ := strings.Cut(p.Blob.String(), ":")
		blob = blob[:min(12, len(blob))]
		var text string
		switch p.Phase {
		case image.PhaseWait:
			text = "waiting for its turn to fetch the image"
		case image.PhaseResolve:
			text = "looking for the image"
		case image.PhaseRetry:
			text = p.Why
		case image.PhasePull:
			text = "pulling " + blob
			if p.Total > 0 {
				text += fmt.Sprintf(": %d%% of %d KiB", p.Done*10/p.Total*10, p.Total>>10)
			}
		}
		if text != last[blob] {
			last[blob] = text
			progress(text)
		}
	}
}
