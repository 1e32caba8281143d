package config

import "slices"

// LocalContext is the name of the context that `kvctl local` keeps.
const LocalContext = "local"

// SetLocal makes the local cluster in dir the current context. The local cluster
// that had it before is remembered for DropLocal.
func (f *File) SetLocal(dir, clusterID string, endpoints []string) (changed bool) {
	old, had := f.Contexts[LocalContext]
	if had && old.LocalDir == dir && f.Current == LocalContext && f.LastLocalDir == dir &&
		old.ClusterID == clusterID && slices.Equal(old.Endpoints, endpoints) {
		return false
	}
	fresh := Context{Endpoints: endpoints, ClusterID: clusterID, LocalDir: dir, Former: old.Former, Covered: without(old.Covered, dir)}
	if f.Current != LocalContext {
		fresh.Former = f.Current
	}
	if old.LocalDir != "" && old.LocalDir != dir {
		fresh.Covered = append(fresh.Covered, LocalCluster{Dir: old.LocalDir, ClusterID: old.ClusterID, Endpoints: old.Endpoints})
		fresh.Covered = fresh.Covered[max(0, len(fresh.Covered)-maxCovered):]
	}
	if f.Contexts == nil {
		f.Contexts = map[string]Context{}
	}
	f.Contexts[LocalContext] = fresh
	f.Current, f.LastLocalDir = LocalContext, dir
	return true
}

// MoveLocal corrects the endpoints of the local cluster in dir, if the context
// leads to it or did, and leaves the choice of the current context alone.
func (f *File) MoveLocal(dir string, endpoints []string) (changed bool) {
	local := f.Contexts[LocalContext]
	if local.LocalDir == dir && dir != "" && !slices.Equal(local.Endpoints, endpoints) {
		local.Endpoints, changed = endpoints, true
	}
	for i, c := range local.Covered {
		if c.Dir == dir && !slices.Equal(c.Endpoints, endpoints) {
			local.Covered[i].Endpoints, changed = endpoints, true
		}
	}
	if changed {
		f.Contexts[LocalContext] = local
	}
	return changed
}

// DropLocal takes the local cluster in dir out of the context "local". If the
// context led to it, it leads again to the latest local cluster before it that
// exists says is still there; without any, the context goes, and the one that
// was current before it is current again. kept says that the data of the
// cluster is there for the next `kvctl local up`.
func (f *File) DropLocal(dir string, kept bool, exists func(dir string) bool) (changed bool) {
	switch {
	case kept && f.LastLocalDir != dir:
		f.LastLocalDir, changed = dir, true
	case !kept && f.LastLocalDir == dir:
		f.LastLocalDir, changed = "", true
	}
	local, had := f.Contexts[LocalContext]
	if !had {
		return changed
	}
	if local.LocalDir != dir {
		rest := without(local.Covered, dir)
		if len(rest) == len(local.Covered) {
			return changed
		}
		local.Covered = rest
		f.Contexts[LocalContext] = local
		return true
	}
	for i := len(local.Covered) - 1; i >= 0; i-- {
		if before := local.Covered[i]; exists(before.Dir) {
			local.LocalDir, local.ClusterID, local.Endpoints = before.Dir, before.ClusterID, before.Endpoints
			local.Covered = local.Covered[:i]
			f.Contexts[LocalContext] = local
			return true
		}
	}
	delete(f.Contexts, LocalContext)
	if f.Current == LocalContext {
		f.Current = ""
		if _, still := f.Contexts[local.Former]; still {
			f.Current = local.Former
		}
	}
	return true
}

func without(all []LocalCluster, dir string) []LocalCluster {
	return slices.DeleteFunc(slices.Clone(all), func(c LocalCluster) bool { return c.Dir == dir })
}

// LocalDir is the directory of the local cluster that the context file leads
// to; empty if there is none.
func (f *File) LocalDir() string { return f.Contexts[LocalContext].LocalDir }
