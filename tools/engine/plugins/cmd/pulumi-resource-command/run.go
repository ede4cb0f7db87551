package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"

	provider "github.com/pulumi/pulumi-go-provider"
)

// run runs one command line and returns what it left behind; no command line leaves stdout and stderr as they were.
//
// The text of a failure has the command line and all that was printed, whatever the logging mode and however secret the inputs: the official plugin
// does that, and our scripts have to be written for it.
func run(ctx context.Context, commandLine *string, inputs Inputs, previous Outputs) (Outputs, error) {
	// Assets are never carried over: what comes back from the state has lost its path, and the SDK refuses it.
	previous = Outputs{Stdout: previous.Stdout, Stderr: previous.Stderr}
	if commandLine == nil {
		return previous, nil
	}
	command, err := newProcess(*commandLine, inputs, previous)
	if err != nil {
		return previous, err
	}

	var stdout, stderr bytes.Buffer
	var both lockedBuffer
	show := provider.GetLogger(ctx).InfoStatus
	stdoutLines, stderrLines := &lineWriter{show: show}, &lineWriter{show: show}
	command.Stdout = tee(&stdout, &both, stdoutLines, inputs.Logging.showsStdout())
	command.Stderr = tee(&stderr, &both, stderrLines, inputs.Logging.showsStderr())

	err = runInGroup(ctx, command)
	stdoutLines.flush()
	stderrLines.flush()
	if err != nil {
		return previous, fmt.Errorf("%w: running %q:\n%s", err, *commandLine, both.String())
	}

	result := Outputs{
		Stdout: strings.TrimSuffix(stdout.String(), "\n"),
		Stderr: strings.TrimSuffix(stderr.String(), "\n"),
	}
	if err := result.collect(command.Dir, inputs); err != nil {
		return previous, err
	}
	return result, nil
}

// newProcess prepares the process: interpreter, directory, environment and stdin.
func newProcess(commandLine string, inputs Inputs, previous Outputs) (*exec.Cmd, error) {
	argv := []string{"/bin/sh", "-c"}
	if len(inputs.Interpreter) > 0 {
		argv = slices.Clone(inputs.Interpreter)
	}
	argv = append(argv, commandLine)
	command := exec.Command(argv[0], argv[1:]...)

	if inputs.Dir != nil {
		command.Dir = *inputs.Dir
	} else {
		directory, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		command.Dir = directory
	}

	// The last of two equal names wins: the previous output over the environment input, and that over what the CLI was started with.
	command.Env = os.Environ()
	for _, name := range slices.Sorted(maps.Keys(inputs.Environment)) {
		command.Env = append(command.Env, name+"="+inputs.Environment[name])
	}
	if inputs.AddPreviousOutputInEnv == nil || *inputs.AddPreviousOutputInEnv {
		// An empty one is not set at all, so that a script can tell with ${PULUMI_COMMAND_STDOUT-}.
		if previous.Stdout != "" {
			command.Env = append(command.Env, "PULUMI_COMMAND_STDOUT="+previous.Stdout)
		}
		if previous.Stderr != "" {
			command.Env = append(command.Env, "PULUMI_COMMAND_STDERR="+previous.Stderr)
		}
	}

	if inputs.Stdin != nil && *inputs.Stdin != "" {
		command.Stdin = strings.NewReader(*inputs.Stdin)
	}
	return command, nil
}

// runInGroup runs the process in a process group of its own and kills that whole group when the context ends: on the engine's Cancel, or at the
// resource's custom timeout. Killing only the process itself would leave a shell's children running, and Wait waiting for them to close stdout.
func runInGroup(ctx context.Context, command *exec.Cmd) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return err
	}
	group := command.Process.Pid
	runningGroups.add(group)
	defer runningGroups.remove(group)
	stop := context.AfterFunc(ctx, func() { killGroup(group) })
	defer stop()
	return command.Wait()
}

// killGroup ends a process group as the official plugin ends a command: with SIGKILL, nothing in it can clean up.
func killGroup(group int) {
	// The one error that can come is ESRCH, and a group that is gone is what was wanted.
	_ = syscall.Kill(-group, syscall.SIGKILL)
}

// groupSet knows the process groups of the commands under way.
type groupSet struct {
	mutex  sync.Mutex
	groups map[int]struct{}
}

var runningGroups = groupSet{groups: map[int]struct{}{}}

func (s *groupSet) add(group int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.groups[group] = struct{}{}
}

func (s *groupSet) remove(group int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.groups, group)
}

func (s *groupSet) killAll() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for group := range s.groups {
		killGroup(group)
	}
}

func tee(own *bytes.Buffer, both *lockedBuffer, lines *lineWriter, show bool) io.Writer {
	if show {
		return io.MultiWriter(own, both, lines)
	}
	return io.MultiWriter(own, both)
}

// lockedBuffer is a buffer that two streams may write to.
type lockedBuffer struct {
	mutex  sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(chunk []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.buffer.Write(chunk)
}

func (b *lockedBuffer) String() string { return b.buffer.String() }

// lineWriter shows every line as soon as it is complete.
type lineWriter struct {
	show    func(line string)
	partial []byte
}

func (w *lineWriter) Write(chunk []byte) (int, error) {
	w.partial = append(w.partial, chunk...)
	for {
		line, rest, found := bytes.Cut(w.partial, []byte("\n"))
		if !found {
			return len(chunk), nil
		}
		w.show(strings.TrimSuffix(string(line), "\r"))
		w.partial = rest
	}
}

// flush shows a last line that has no newline.
func (w *lineWriter) flush() {
	if len(w.partial) > 0 {
		w.show(string(w.partial))
		w.partial = nil
	}
}
