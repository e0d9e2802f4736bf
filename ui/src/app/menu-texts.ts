// The texts of the window's menus and tray, by the ids that the shell gives its entries.
import { t } from '../i18n'

export function menuTexts(): Record<string, string> {
  return {
    file: t('common.menu.file'),
    new: t('common.menu.new'),
    open: t('common.menu.open'),
    settings: t('common.nav.settings'),
    quit: t('common.menu.quit'),
    edit: t('common.menu.edit'),
    undo: t('common.menu.undo'),
    redo: t('common.menu.redo'),
    cut: t('common.menu.cut'),
    copy: t('common.action.copy'),
    paste: t('common.menu.paste'),
    select_all: t('common.menu.selectAll'),
    view: t('common.menu.view'),
    start: t('common.nav.start'),
    tune: t('common.nav.tune'),
    runs: t('common.nav.runs'),
    models: t('common.nav.models'),
    chat: t('common.nav.chat'),
    zoom_in: t('common.menu.zoomIn'),
    zoom_out: t('common.menu.zoomOut'),
    zoom_reset: t('common.menu.zoomReset'),
    help: t('common.menu.help'),
    keys: t('common.keys.title'),
    log: t('common.shell.log'),
    about: t('common.menu.about'),
    tray_show: t('common.menu.show'),
    tray_quit: t('common.menu.quit'),
  }
}
