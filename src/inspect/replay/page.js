'use strict';
// The record of a training step, to be stepped through. Everything is written as text, never as HTML: names come from
// folders and files.
(async () => {
  const content = JSON.parse(document.getElementById('content').textContent);
  const { record } = content;
  const { steps, values } = record;
  const $ = id => document.getElementById(id);

  // -- The levels of the pictures: 127 is 0, 255 no finite number; see picture.rs.
  const unpack = async text => {
    const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const valueOf = (level, scale) => level === 255 ? NaN : Math.sign(level - 127) * ((level - 127) / 127) ** 2 * scale;

  // -- Small makers of elements.
  const element = (name, { text, ...rest } = {}, ...children) => {
    const made = Object.assign(document.createElement(name), rest);
    if (text !== undefined) made.textContent = text;
    made.append(...children);
    return made;
  };
  // Text with code between backticks.
  const prose = (name, text) => element(name, {},
    ...text.split('`').map((part, index) => index % 2 ? element('code', { text: part }) : part));
  const figure = number => number === null || number === undefined ? 'none'
    : Number.isInteger(number) && Math.abs(number) < 1e9 ? String(number) : Math.abs(number) >= 1e-3 && Math.abs(number) < 1e5 ? Number(number.toPrecision(4)).toString()
      : number.toExponential(2);

  // -- Colours: from that of a card, which is 0, to blue and to orange.
  const dark = matchMedia('(prefers-color-scheme: dark)');
  let palette = [];
  const mixed = (from, to, share) => from.map((value, index) => Math.round(value + (to[index] - value) * share));
  const mix = () => {
    const zero = dark.matches ? [22, 24, 27] : [255, 255, 255];
    const below = dark.matches ? [111, 183, 245] : [11, 92, 173];
    const above = dark.matches ? [244, 153, 90] : [194, 79, 0];
    palette = Array.from({ length: 255 }, (_, level) =>
      mixed(zero, level < 127 ? below : above, Math.abs(level - 127) / 127));
    palette.push([208, 0, 208]);
  };

  const paint = (canvas, width, height, colour) => {
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext('2d');
    const pixels = context.createImageData(width, height);
    for (let at = 0; at < width * height; at++) pixels.data.set([...colour(at), 255], 4 * at);
    context.putImageData(pixels, 0, 0);
    return canvas;
  };

  // -- A picture of a value.
  let levels = new Uint8Array();
  let image = 0;
  const names = {
    channels: (group, index) => `image ${group + 1}, channel ${index}`,
    filters: (group, index) => `filter ${group}, input ${index}`,
    matrix: () => 'matrix',
  };

  // A tile of a picture; pointing at it reads its values out.
  const tile = (picture, group, index, readOut) => {
    const [, tiles, height, width] = picture.dims;
    const first = picture.first + (group * tiles + index) * height * width;
    const canvas = paint(document.createElement('canvas'), width, height, at => palette[levels[first + at]]);
    const what = names[picture.form](group, index);
    if (picture.form === 'matrix') canvas.style.width = `${8 * width}px`;
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', what);
    canvas.onpointermove = canvas.onpointerdown = event => {
      const box = canvas.getBoundingClientRect();
      const column = Math.min(width - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * width)));
      const row = Math.min(height - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * height)));
      const value = valueOf(levels[first + row * width + column], picture.scale);
      const near = Number.isNaN(value) ? 'no finite number' : `near ${figure(value)}`;
      readOut.textContent = `${what}, row ${row * picture.every}, column ${column * picture.every}: ${near}`;
    };
    return canvas;
  };

  // Three tiles as red, green and blue.
  const coloured = (picture, group) => {
    const [, , height, width] = picture.dims;
    const at = (channel, place) => levels[picture.first + (group * 3 + channel) * height * width + place];
    const share = level => 127.5 + 127.5 * (valueOf(level, 1) || 0);
    const canvas = paint(document.createElement('canvas'), width, height, place => [0, 1, 2].map(c => share(at(c, place))));
    canvas.title = 'as red, green and blue: grey is 0';
    return canvas;
  };

  const tiles = (picture, readOut) => {
    const [groups, inner] = picture.dims;
    const all = group => Array.from({ length: inner }, (_, index) => tile(picture, group, index, readOut));
    const colours = group => picture.of[1] === 3 ? [coloured(picture, group)] : [];
    const grid = element('div', { className: `sheet-of-tiles ${picture.form}` });
    if (picture.form === 'filters') {
      for (let group = 0; group < groups; group++) grid.append(element('div', {}, ...colours(group), ...all(group)));
    } else {
      const group = Math.min(image, groups - 1);
      grid.append(...colours(group), ...all(group));
    }
    return grid;
  };

  const bars = picture => {
    const box = element('div', { className: 'bars' });
    const { numbers } = picture;
    const low = Math.min(0, ...numbers.filter(n => n !== null)), high = Math.max(0, ...numbers.filter(n => n !== null));
    const range = high - low || 1;
    numbers.forEach((number, index) => {
      const bar = element('b');
      const [from, to] = [Math.min(0, number ?? high), Math.max(0, number ?? high)];
      bar.style.bottom = `${100 * (from - low) / range}%`;
      bar.style.height = `max(1px, ${100 * (to - from) / range}%)`;
      bar.style.background = number === null ? '#d000d0' : number < 0 ? 'var(--below)' : 'var(--above)';
      box.append(element('i', { title: `${index}: ${number === null ? 'no finite number' : figure(number)}` }, bar));
    });
    return box;
  };

  // What of a tensor is seen, in words.
  const extent = ({ form, dims, of, every }) => {
    const some = (shown, all, what) => shown < all ? `the first ${shown} of ${all} ${what}s` : `${all} ${what}${all === 1 ? '' : 's'}`;
    const thinned = every > 1 ? `, every ${every}${every === 2 ? 'nd' : every === 3 ? 'rd' : 'th'} row and column of ${of[2]} x ${of[3]}` : '';
    switch (form) {
      case 'channels': return `${some(dims[1], of[1], 'channel')} of image ${Math.min(image, dims[0] - 1) + 1} of ${of[0]}${thinned}`;
      case 'filters': return of[1] === 1 ? some(dims[0], of[0], 'filter') : `${some(dims[0], of[0], 'filter')}, ${some(dims[1], of[1], 'input')} each`;
      case 'matrix': return `${some(dims[2], of[2], 'row')}, ${some(dims[3], of[3], 'column')}`;
      case 'bars': case 'numbers': return some(dims[3], of[3], 'number');
      default: return 'not shown: the data set';
    }
  };

  const legend = picture => {
    const scale = paint(element('canvas', { className: 'scale' }), 255, 1, at => palette[at]);
    const most = figure(picture.scale);
    return [`; colours from ${picture.scale === 0 ? 0 : `-${most}`}`, scale, `to ${most}`];
  };

  // A picture, with what is seen of the tensor and the scale.
  const drawing = picture => {
    const told = element('p', { className: 'figures', text: extent(picture) });
    if (picture.form === 'bars') return [told, bars(picture)];
    if (picture.form === 'numbers') {
      const all = picture.numbers.map(number => number === null ? 'no finite number' : figure(number)).join(', ');
      return [told, element('p', {}, element('code', { text: all }))];
    }
    if (picture.form === 'untold') return [told];
    told.append(...legend(picture));
    const readOut = element('p', { className: 'read-out' });
    return [told, tiles(picture, readOut), readOut];
  };

  const link = (to, text) => element('a', { href: `#${to}`, text });
  const stepName = number => `step ${number}, ${steps[number].op} '${steps[number].layer}'`;

  // A tensor: what it is, its figures, its picture.
  const card = (number, isRead) => {
    const value = values[number];
    const box = element('div', { className: 'value' });
    const name = value.name ? [element('b', { text: value.name }), ' '] : [];
    const head = element('p', {}, ...name, element('code', { text: value.type }));
    if (isRead) {
      head.append(' ', ...(value.from === null ? ['there before the first step of the plan'] : ['written by ', link(value.from, stepName(value.from))]));
    } else {
      const readers = steps.flatMap((step, index) => step.reads.includes(number) ? [index] : []);
      head.append(readers.length ? ' read by ' : ' read by no later step');
      readers.forEach((reader, index) => head.append(index ? ', ' : '', link(reader, stepName(reader))));
    }
    box.append(head);
    if (value.sha256) {
      const mean = `${figure(value.smallest)} to ${figure(value.largest)}, mean ${figure(value.mean)}, ${figure(100 * value.zeros)} % zeros, `;
      const finite = value.not_finite ? element('span', { className: 'infinite', text: `${value.not_finite} not finite` }) : 'all finite';
      box.append(element('p', { className: 'figures' }, mean, finite));
    }
    box.append(...drawing(value.picture));
    if (!isRead && value.change) {
      const { largest, share, picture } = value.change;
      const relative = share === null ? '' : `, ${figure(100 * share)} % of its norm`;
      box.append(element('p', {}, `moved by at most ${figure(largest)}${relative}:`), ...drawing(picture));
    }
    return box;
  };

  // -- The step that is shown.
  const begin = Math.max(0, steps.findIndex(step => step.phase !== 'constants'));
  const number = () => {
    const asked = Number.parseInt(location.hash.slice(1), 10);
    return Number.isNaN(asked) ? begin : Math.min(steps.length - 1, Math.max(0, asked));
  };
  const go = to => { location.hash = `#${Math.min(steps.length - 1, Math.max(0, to))}`; };
  const phases = [...new Set(steps.map(step => step.phase))];

  // Whether formulas are told; as long as nobody closes them again.
  let isOpen = false;
  const show = () => {
    const at = number(), step = steps[at];
    const box = $('step');
    box.replaceChildren();
    box.append(element('h2', { text: `Plan step ${at} of ${steps.length - 1}: ${step.op} '${step.layer}' (${step.phase})` }));
    const { summary, formula, operands } = record.ops[step.op] ?? { summary: '', formula: '', operands: '' };
    if (summary) box.append(prose('p', summary));
    const more = element('details', { open: isOpen }, element('summary', { text: 'formula, operands and constants' }));
    more.ontoggle = () => { isOpen = more.open; };
    `${formula}\n\n${operands}`.split('\n\n').forEach(part => more.append(prose('p', part)));
    more.append(element('pre', { text: step.settings }));
    box.append(more);
    box.append(element('h3', { text: 'Writes' }), ...step.writes.map(value => card(value, false)));
    if (step.reads.length) box.append(element('h3', { text: 'Reads' }), element('div', { className: 'reads' }, ...step.reads.map(value => card(value, true))));
    $('slider').value = at;
    $('slider').setAttribute('aria-valuetext', stepName(at));
    $('first').disabled = $('back').disabled = at === 0;
    $('last').disabled = $('forth').disabled = at === steps.length - 1;
    for (const button of $('phases').children) button.setAttribute('aria-pressed', button.value === step.phase);
    for (const button of $('images').children) button.setAttribute('aria-pressed', Number(button.value) === image);
  };

  const choose = chosen => { image = chosen; show(); };

  // -- The head, and what one can do.
  $('proof').textContent = content.proof;
  $('proof').className = { true: 'right', false: 'wrong' }[content.proved] ?? 'muted';
  content.facts.forEach(([name, fact]) => $('facts').append(element('div', {}, element('dt', { text: name }), element('dd', { text: fact }))));
  const most = Math.max(0, ...values.filter(value => value.picture.form === 'channels').map(value => value.picture.dims[0]));
  $('choose').hidden = most < 2;
  const label = index => content.classes[content.labels[index]] ?? '';
  for (let index = 0; index < most; index++) {
    const button = element('button', { text: `image ${index + 1}: ${label(index)}`, value: index });
    button.onclick = () => choose(index);
    $('images').append(button);
  }
  for (const phase of phases) {
    const button = element('button', { text: phase, value: phase });
    button.onclick = () => go(steps.findIndex(step => step.phase === phase));
    $('phases').append(button);
  }
  const slider = $('slider');
  slider.max = steps.length - 1;
  slider.oninput = () => go(Number(slider.value));
  $('first').onclick = () => go(0);
  $('back').onclick = () => go(number() - 1);
  $('forth').onclick = () => go(number() + 1);
  $('last').onclick = () => go(steps.length - 1);
  addEventListener('hashchange', show);
  addEventListener('keydown', event => {
    if (event.target === slider || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = { ArrowLeft: number() - 1, ArrowRight: number() + 1, Home: 0, End: steps.length - 1 };
    if (event.key in keys) {
      event.preventDefault();
      go(keys[event.key]);
    } else if (Number(event.key) >= 1 && Number(event.key) <= most) {
      choose(Number(event.key) - 1);
    }
  });
  let touch = null;
  addEventListener('touchstart', event => {
    const isControl = event.target.closest('#controls') !== null;
    touch = isControl || event.touches.length > 1 ? null : event.touches[0];
  }, { passive: true });
  addEventListener('touchend', event => {
    if (touch === null) return;
    const [across, down] = [event.changedTouches[0].clientX - touch.clientX, event.changedTouches[0].clientY - touch.clientY];
    if (Math.abs(across) > 60 && Math.abs(across) > 2 * Math.abs(down)) go(number() + (across < 0 ? 1 : -1));
  }, { passive: true });
  dark.addEventListener('change', () => { mix(); show(); });
  levels = await unpack(content.levels);
  mix();
  show();
})();
