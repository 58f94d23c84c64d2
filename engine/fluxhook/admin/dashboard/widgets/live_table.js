// A table whose rows change in place: what has the focus keeps it, and nothing flickers. While somebody
// is at work in it (the pointer, the focus or a choice is there; on a touch screen, always), no row comes,
// goes or moves: what is new waits behind a button.
const Cell = {
  props: { cell: null, gone: Boolean, root: String },
  emits: ["act"],
  template: `
    <template v-if="cell === null || cell === undefined || cell === ''"><span class="none">–</span></template>
    <template v-else-if="typeof cell !== 'object'">{{ cell }}</template>
    <fh-time v-else-if="cell.kind === 'time'" :at="cell.at" :due="cell.due || null"
      :dated="cell.dated || null"></fh-time>
    <fh-state v-else-if="cell.kind === 'state'" :state="cell.state" :label="cell.label || ''"></fh-state>
    <span v-else-if="cell.kind === 'share'" class="share">
      <span class="bar" aria-hidden="true"><span :style="{width: (cell.share * 100) + '%'}"
        :class="cell.share >= .99 ? 'good' : cell.share >= .9 ? 'fair' : 'poor'"></span></span>
      <span class="figure">{{ cell.text }}<span v-if="cell.sub" class="sub">{{ cell.sub }}</span></span>
    </span>
    <span v-else-if="cell.kind === 'text'" :class="cell.classes" :title="cell.title">
      <a v-if="cell.href" :href="root + cell.href">{{ cell.text }}</a><template v-else>{{ cell.text }}</template>
      <span v-if="cell.sub" class="sub">{{ cell.sub }}</span>
    </span>
    <span v-else-if="cell.kind === 'error'" class="failure" :title="cell.title">
      <span class="cause" :class="{held: cell.held}">{{ cell.text }}</span>
      <fh-time v-if="cell.at" class="sub" :at="cell.at"></fh-time>
      <span v-if="cell.sub" class="sub">{{ cell.sub }}</span>
    </span>
    <button v-else-if="cell.kind === 'action'" type="button" class="button small" :disabled="gone"
      :aria-label="gone ? null : cell.label" @click="$emit('act', cell.id)"><fh-icon :name="cell.icon"></fh-icon><span>{{
      gone ? "Done" : cell.text }}</span></button>
  `,
};

export default {
  components: { Cell },
  props: {
    caption: String,
    columns: Array,
    rows: Array,
    anew: Number,
    selectable: Boolean,
    root: String, // what paths begin with
  },
  emits: ["act", "selected"],
  data: () => ({ shown: [], chosen: [], acted: [], pointed: false }),
  computed: {
    latest() {
      return [this.rows, this.anew];
    },
    keys() {
      return this.shown.filter((row) => !row.gone).map((row) => row.key);
    },
    all() {
      return this.keys.length > 0 && this.keys.every((key) => this.chosen.includes(key));
    },
    waiting() {
      const known = this.shown.map((row) => row.key);
      return this.rows.filter((row) => !known.includes(row.key)).length;
    },
  },
  watch: {
    latest([, anew], [, before]) {
      if (anew !== before || !this.inUse()) this.showLatest();
      else this.showInPlace();
    },
    keys(keys) {
      // What is gone cannot be chosen any more.
      const left = this.chosen.filter((key) => keys.includes(key));
      if (left.length !== this.chosen.length) this.choose(left);
    },
  },
  created() {
    this.shown = this.rows;
  },
  methods: {
    inUse() {
      return (
        this.shown.length > 0 &&
        (this.pointed ||
          this.chosen.length > 0 ||
          this.$el.contains(document.activeElement) ||
          matchMedia("(hover: none)").matches)
      );
    },
    showInPlace() {
      const latest = new Map(this.rows.map((row) => [row.key, row]));
      this.shown = this.shown.map(
        (row) => latest.get(row.key) ?? (this.acted.includes(row.key) ? { ...row, gone: true } : row),
      );
    },
    showLatest() {
      this.shown = this.rows;
      this.acted = [];
    },
    settle() {
      // Once the focus is where it goes to.
      requestAnimationFrame(() => {
        if (this.$el.isConnected && !this.inUse()) this.showLatest();
      });
    },
    point(event) {
      this.pointed = event.pointerType !== "touch";
    },
    leave() {
      this.pointed = false;
      this.settle();
    },
    act(key) {
      this.acted.push(key);
      this.$emit("act", key);
    },
    choose(keys) {
      this.chosen = keys;
      this.$emit("selected", keys);
    },
    toggle(key) {
      const left = this.chosen.filter((other) => other !== key);
      this.choose(left.length === this.chosen.length ? [...left, key] : left);
    },
  },
  template: `
    <div class="table-frame" @pointermove="point" @pointerleave="leave" @focusout="settle">
      <button v-if="waiting" type="button" class="button small primary waiting" @click="showLatest">
        <span>Show {{ waiting }} new</span>
      </button>
      <div class="table-scroll"><table role="table" :aria-label="caption">
        <thead role="rowgroup">
          <tr role="row">
            <th v-if="selectable" class="pick" scope="col" role="columnheader">
              <input type="checkbox" aria-label="Choose all on this page" :checked="all"
                @change="choose(all ? [] : keys)">
            </th>
            <th v-for="column in columns" :key="column.key" scope="col" role="columnheader"
              :class="column.classes">{{ column.label }}</th>
          </tr>
        </thead>
        <tbody role="rowgroup">
          <tr v-for="row in shown" :key="row.key" role="row"
            :class="{chosen: chosen.includes(row.key), gone: row.gone}">
            <td v-if="selectable" class="pick" role="cell">
              <input type="checkbox" :aria-label="'Choose ' + row.name" :checked="chosen.includes(row.key)"
                :disabled="row.gone" @change="toggle(row.key)">
            </td>
            <td v-for="(column, i) in columns" :key="column.key" role="cell" :class="column.classes"
              :data-label="column.label"><Cell :cell="row.cells[i]" :gone="row.gone" :root="root"
                @act="act(row.key)"/></td>
          </tr>
        </tbody>
      </table></div>
    </div>
  `,
};
