package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/blang/semver"
	provider "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/integration"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/sig"
	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

const testURN = resource.URN("urn:pulumi:stack::project::command:local:Command::name")

type values = map[string]property.Value

func text(s string) property.Value { return property.New(s) }

func list(members ...string) property.Value {
	var array []property.Value
	for _, member := range members {
		array = append(array, text(member))
	}
	return property.New(array)
}

func object(members map[string]string) property.Value {
	object := values{}
	for name, value := range members {
		object[name] = text(value)
	}
	return property.New(property.NewMap(object))
}

// newServer drives the provider through everything but the wire.
func newServer(t *testing.T) integration.Server {
	t.Helper()
	plugin, err := newProvider()
	if err != nil {
		t.Fatal(err)
	}
	server, err := integration.NewServer(t.Context(), packageName, semver.MustParse(packageVersion), integration.WithProvider(plugin))
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func create(t *testing.T, inputs values) property.Map {
	t.Helper()
	response, err := newServer(t).Create(provider.CreateRequest{Urn: testURN, Properties: property.NewMap(inputs)})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(response.ID, "name") || len(response.ID) != len("name")+8 {
		t.Errorf("id %q is not the name and eight hexadecimal digits", response.ID)
	}
	return response.Properties
}

func update(t *testing.T, state property.Map, inputs values) property.Map {
	t.Helper()
	response, err := newServer(t).Update(provider.UpdateRequest{ID: "id", Urn: testURN, State: state, Inputs: property.NewMap(inputs)})
	if err != nil {
		t.Fatal(err)
	}
	return response.Properties
}

func wantText(t *testing.T, state property.Map, name, want string) {
	t.Helper()
	value := state.Get(name)
	if !value.IsString() || value.AsString() != want {
		t.Errorf("%s is %v, want %q", name, value, want)
	}
}

func TestCreateCapturesBothStreamsLessOneNewline(t *testing.T) {
	state := create(t, values{"create": text(`printf 'out\n\n'; printf 'err\n' >&2`)})
	wantText(t, state, "stdout", "out\n")
	wantText(t, state, "stderr", "err")
}

func TestCreateWithoutCommandDoesNothing(t *testing.T) {
	state := create(t, values{"update": text("exit 1"), "delete": text("exit 1")})
	wantText(t, state, "stdout", "")
	wantText(t, state, "stderr", "")
}

func TestPreviewRunsNothing(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "marker")
	inputs := property.NewMap(values{"create": text("touch " + marker)})
	server := newServer(t)
	created, err := server.Create(provider.CreateRequest{Urn: testURN, Properties: inputs, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if !created.Properties.Get("stdout").IsComputed() {
		t.Errorf("stdout is %v in a preview, want it unknown", created.Properties.Get("stdout"))
	}
	if _, err := server.Update(provider.UpdateRequest{ID: "id", Urn: testURN, State: create(t, values{}), Inputs: inputs, DryRun: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("the command ran in a preview")
	}
}

func TestUpdate(t *testing.T) {
	for name, test := range map[string]struct {
		inputs values
		want   string
	}{
		"runs update":           {values{"create": text("echo create"), "update": text("echo update")}, "update"},
		"falls back to create":  {values{"create": text("echo create")}, "create"},
		"keeps what there was":  {values{"delete": text("echo delete")}, "before"},
		"replaces with nothing": {values{"update": text("true")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := create(t, values{"create": text("echo before")})
			wantText(t, update(t, before, test.inputs), "stdout", test.want)
		})
	}
}

func TestDelete(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "marker")
	state := create(t, values{"create": text("echo made"), "delete": text(`printf %s "$PULUMI_COMMAND_STDOUT" > ` + marker)})
	if err := newServer(t).Delete(provider.DeleteRequest{ID: "id", Urn: testURN, Properties: state}); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(marker); err != nil || string(content) != "made" {
		t.Errorf("the delete command wrote %q, %v; want the previous stdout", content, err)
	}
	if err := newServer(t).Delete(provider.DeleteRequest{ID: "id", Urn: testURN, Properties: create(t, values{})}); err != nil {
		t.Errorf("a resource without a delete command: %v", err)
	}
}

// A changed member of triggers is reported as an update: the SDK turns it into a replacement, with replaceOnChanges on `triggers[*]`.
// tests/engine_build/test_command_resource.py sees the replacement through the engine.
func TestDiffNamesWhatChanged(t *testing.T) {
	before := values{"create": text("echo"), "triggers": list("one")}
	for name, test := range map[string]struct {
		inputs values
		want   map[string]provider.DiffKind
	}{
		"nothing":           {before, map[string]provider.DiffKind{}},
		"create":            {values{"create": text("echo 2"), "triggers": list("one")}, map[string]provider.DiffKind{"create": provider.Update}},
		"a trigger":         {values{"create": text("echo"), "triggers": list("two")}, map[string]provider.DiffKind{"triggers[0]": provider.Update}},
		"one more trigger":  {values{"create": text("echo"), "triggers": list("one", "two")}, map[string]provider.DiffKind{"triggers[1]": provider.Add}},
		"no trigger at all": {values{"create": text("echo")}, map[string]provider.DiffKind{"triggers": provider.DeleteReplace}},
	} {
		t.Run(name, func(t *testing.T) {
			response, err := newServer(t).Diff(provider.DiffRequest{
				ID: "id", Urn: testURN, State: create(t, before), OldInputs: property.NewMap(before), Inputs: property.NewMap(test.inputs),
			})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]provider.DiffKind{}
			for path, difference := range response.DetailedDiff {
				got[path] = difference.Kind
			}
			if !maps.Equal(got, test.want) || response.HasChanges != (len(test.want) > 0) {
				t.Errorf("the difference is %v, want %v", got, test.want)
			}
		})
	}
}

func TestEnvironmentStdinDirectoryAndInterpreter(t *testing.T) {
	t.Setenv("INHERITED", "inherited")
	t.Setenv("OVERRIDDEN", "outer")
	directory, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	state := create(t, values{
		"create":      text(`echo "$0 $INHERITED $OVERRIDDEN $(pwd) $(cat)"`),
		"environment": object(map[string]string{"OVERRIDDEN": "inner"}),
		"stdin":       text("from stdin"),
		"dir":         text(directory),
		"interpreter": list("/bin/sh", "-e", "-c"),
	})
	wantText(t, state, "stdout", "/bin/sh inherited inner "+directory+" from stdin")
}

func TestPreviousOutputInEnvironment(t *testing.T) {
	show := text(`echo "${PULUMI_COMMAND_STDOUT-unset} ${PULUMI_COMMAND_STDERR-unset}"`)
	for name, test := range map[string]struct {
		first  string
		inputs values
		want   string
	}{
		"by default":                {"echo out; echo err >&2", values{"update": show}, "out err"},
		"asked for":                 {"echo out; echo err >&2", values{"update": show, "addPreviousOutputInEnv": property.New(true)}, "out err"},
		"declined":                  {"echo out; echo err >&2", values{"update": show, "addPreviousOutputInEnv": property.New(false)}, "unset unset"},
		"an empty one is not there": {"echo out", values{"update": show}, "out unset"},
		"wins over the environment": {
			"echo out", values{"update": show, "environment": object(map[string]string{"PULUMI_COMMAND_STDOUT": "mine"})}, "out unset",
		},
	} {
		t.Run(name, func(t *testing.T) {
			wantText(t, update(t, create(t, values{"create": text(test.first)}), test.inputs), "stdout", test.want)
		})
	}
}

func TestCheckWritesNoDefaultIntoInputs(t *testing.T) {
	inputs := property.NewMap(values{"create": text("true")})
	response, err := newServer(t).Check(provider.CheckRequest{Urn: testURN, Inputs: inputs})
	if err != nil {
		t.Fatal(err)
	}
	if !response.Inputs.Equals(inputs) {
		t.Errorf("the inputs became %v", response.Inputs)
	}
}

func TestSecretInputsDoNotMakeOutputsSecret(t *testing.T) {
	state := create(t, values{
		"create":      text("echo $NAME; cat"),
		"environment": object(map[string]string{"NAME": "hidden"}).WithSecret(true),
		"stdin":       text("typed").WithSecret(true),
		"triggers":    list("trigger").WithSecret(true),
	})
	wantText(t, state, "stdout", "hidden\ntyped")
	for name, want := range map[string]bool{"stdout": false, "stderr": false, "create": false, "environment": true, "stdin": true, "triggers": true} {
		if got := state.Get(name).HasSecrets(); got != want {
			t.Errorf("%s secret: %t, want %t", name, got, want)
		}
	}
}

func TestFailureTextHasCommandLineAndAllOutput(t *testing.T) {
	commandLine := `echo "out"; echo err >&2; exit 3`
	server := newServer(t)
	before := create(t, values{"create": text("echo before")})
	inputs := property.NewMap(values{"create": text(commandLine), "delete": text(commandLine), "logging": text("none"), "stdin": text("x").WithSecret(true)})
	_, createError := server.Create(provider.CreateRequest{Urn: testURN, Properties: inputs})
	_, updateError := server.Update(provider.UpdateRequest{ID: "id", Urn: testURN, State: before, Inputs: inputs})
	deleteError := server.Delete(provider.DeleteRequest{ID: "id", Urn: testURN, Properties: inputs.Set("stdout", text("")).Set("stderr", text(""))})
	// The streams are two pipes, so their order is not sure.
	prefix := "exit status 3: running " + strconv.Quote(commandLine) + ":\n"
	want := []string{prefix + "out\nerr\n", prefix + "err\nout\n"}
	for name, err := range map[string]error{"create": createError, "update": updateError, "delete": deleteError} {
		if err == nil || !slices.Contains(want, err.Error()) {
			t.Errorf("%s failed with %v, want %q", name, err, want[0])
		}
	}
}

func TestFailureToStart(t *testing.T) {
	for name, inputs := range map[string]values{
		"no such interpreter": {"create": text("true"), "interpreter": list("no-such-interpreter")},
		"no such directory":   {"create": text("true"), "dir": text("/no/such/directory")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newServer(t).Create(provider.CreateRequest{Urn: testURN, Properties: property.NewMap(inputs)})
			if err == nil || !strings.HasSuffix(err.Error(), ": running \"true\":\n") {
				t.Errorf("failed with %v", err)
			}
		})
	}
}

// logged collects what the provider shows to the user.
type logged struct {
	mutex sync.Mutex
	lines []string
	seen  chan string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logged) WithGroup(string) slog.Handler            { return l }
func (l *logged) Handle(_ context.Context, record slog.Record) error {
	l.mutex.Lock()
	l.lines = append(l.lines, record.Message)
	l.mutex.Unlock()
	l.seen <- record.Message
	return nil
}

func captureLog(t *testing.T) *logged {
	t.Helper()
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	handler := &logged{seen: make(chan string, 1000)}
	slog.SetDefault(slog.New(handler))
	return handler
}

func TestLoggingModes(t *testing.T) {
	for name, test := range map[string]struct {
		mode values
		want []string
	}{
		"by default both": {values{}, []string{"err", "out"}},
		"both":            {values{"logging": text("stdoutAndStderr")}, []string{"err", "out"}},
		"stdout":          {values{"logging": text("stdout")}, []string{"out"}},
		"stderr":          {values{"logging": text("stderr")}, []string{"err"}},
		"none":            {values{"logging": text("none")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			shown := captureLog(t)
			test.mode["create"] = text("echo out; printf err >&2")
			state := create(t, test.mode)
			if got := slices.Sorted(slices.Values(shown.lines)); !slices.Equal(got, test.want) {
				t.Errorf("shown: %q, want %q", got, test.want)
			}
			wantText(t, state, "stdout", "out")
			wantText(t, state, "stderr", "err")
		})
	}
}

func TestOutputIsShownWhileTheCommandRuns(t *testing.T) {
	shown := captureLog(t)
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		create(t, values{"create": text("echo first; read line < " + gate + "; echo $line")})
	}()
	wait(t, "the first line", shown.seen)
	if err := os.WriteFile(gate, []byte("second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wait(t, "the end", done)
	if want := []string{"first", "second"}; !slices.Equal(shown.lines, want) {
		t.Errorf("shown: %q, want %q", shown.lines, want)
	}
}

func TestAVeryLongLineIsShownWhole(t *testing.T) {
	shown := captureLog(t)
	create(t, values{"create": text("head -c 300000 /dev/zero | tr '\\0' x")})
	if len(shown.lines) != 1 || len(shown.lines[0]) != 300000 {
		t.Errorf("%d lines were shown", len(shown.lines))
	}
}

func TestAssetAndArchivePaths(t *testing.T) {
	directory := t.TempDir()
	state := create(t, values{
		"create":       text("mkdir -p src/deep assets && touch src/index.js src/secret.js src/deep/more.js assets/logo.svg README"),
		"dir":          text(directory),
		"assetPaths":   list("assets/*", "src/**.js", "!**secret.*"),
		"archivePaths": list("*"),
	})
	assets := state.Get("assets").AsMap()
	names := slices.Sorted(maps.Keys(assets.AsMap()))
	if want := []string{"assets/logo.svg", "src/deep/more.js", "src/index.js"}; !slices.Equal(names, want) {
		t.Errorf("assets: %v, want %v", names, want)
	}
	// These are maps with a signature, which the engine reads as assets and archives.
	asset := assets.Get("src/index.js").AsMap()
	wantText(t, asset, sig.Key, sig.AssetSig)
	wantText(t, asset, "path", filepath.Join(directory, "src/index.js"))
	archive := state.Get("archive").AsMap()
	wantText(t, archive, sig.Key, sig.ArchiveSig)
	members := archive.Get("assets").AsMap()
	if _, found := members.GetOk("README"); members.Len() != 1 || !found {
		t.Errorf("archive: %v, want README alone", members)
	}
}

func TestCancellationKillsTheWholeProcessGroup(t *testing.T) {
	for name, cancel := range map[string]func(integration.Server) error{
		"by the engine":     func(server integration.Server) error { return server.Cancel() },
		"by SIGINT":         func(integration.Server) error { runningGroups.killAll(); return nil },
		"by custom timeout": func(integration.Server) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			gate := filepath.Join(t.TempDir(), "gate")
			if err := syscall.Mkfifo(gate, 0o600); err != nil {
				t.Fatal(err)
			}
			// A child of a child, which ignores polite signals and holds stdout: it lives on unless the whole group is killed.
			commandLine := `sh -c 'trap "" TERM INT; sh -c "echo \$\$ > ` + gate + `; sleep 60"; true'; true`
			request := provider.CreateRequest{Urn: testURN, Properties: property.NewMap(values{"create": text(commandLine)})}
			if name == "by custom timeout" {
				request.Timeout = 1
			}
			server := newServer(t)
			failed := make(chan error, 1)
			go func() {
				_, err := server.Create(request)
				failed <- err
			}()
			content, err := os.ReadFile(gate)
			if err != nil {
				t.Fatal(err)
			}
			grandchild, err := strconv.Atoi(strings.TrimSpace(string(content)))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(grandchild, syscall.SIGKILL) })
			if err := cancel(server); err != nil {
				t.Fatal(err)
			}
			if err := wait(t, "the end of create", failed); err == nil || !strings.HasPrefix(err.Error(), "signal: killed: running ") {
				t.Errorf("create ended with %v", err)
			}
			// Whoever inherits the orphan needs a moment to reap it.
			for deadline := time.Now().Add(5 * time.Second); isRunning(grandchild); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the child's child is still running")
				}
			}
		})
	}
}

// isRunning tells whether a process exists and is more than a zombie.
func isRunning(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true // There is no /proc on macOS.
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

func TestACommandIsNotStartedAfterCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	marker := filepath.Join(t.TempDir(), "marker")
	commandLine := "touch " + marker
	if _, err := run(ctx, &commandLine, Inputs{}, Outputs{}); !errors.Is(err, context.Canceled) {
		t.Errorf("failed with %v", err)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("the command ran")
	}
}

func wait[T any](t *testing.T, what string, channel <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-channel:
	case <-time.After(10 * time.Second):
		t.Fatalf("waited 10 s for %s", what)
	}
	return value
}
